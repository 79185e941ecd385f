"""The custom resource: its models, and the CRD made from them."""
