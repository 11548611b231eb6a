"""The segmentation backend as a service: one machine with a GPU answers the prompts of many annotators.

The protocol is described by the OpenAPI document that a running server gives at ``/v1/openapi.json``; how to run one is
in docs/server.md. `napari_sammed.server.core` knows nothing of HTTP, `napari_sammed.server.app` nothing of images.
"""
