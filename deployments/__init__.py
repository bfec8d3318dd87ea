"""Deployments of the flows on work pools: `prefect.yaml`."""
