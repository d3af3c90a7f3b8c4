"""Inference: a server that answers observations with action chunks, beside the gateway or on a site of its own."""
