"""A Hugging Face Space: the page of `imagecot app`, with the small models that are shipped."""

from imagecot.app.launch import serve

serve(["tiny-dpo", "tiny-janus"], host="0.0.0.0", port=7860, most=20, queue=20, models=6, ready=print)
