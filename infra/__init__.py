"""Where it runs: the local stack, images and manifests."""
