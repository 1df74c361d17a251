"""The commands of `imagecot`, a file each; nothing heavy is imported before a command runs."""
