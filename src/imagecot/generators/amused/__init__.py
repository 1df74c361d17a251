"""aMUSEd: a masked generator of diffusers' parts (the extra `imagecot[amused]`)."""
