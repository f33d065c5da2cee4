"""Images and kernels: catalogue, manifests with digests, builders from Debian packages."""
