"""The method in a browser: `imagecot app`, and the page of a Hugging Face Space (extra `imagecot[app]`)."""
