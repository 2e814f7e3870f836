"""System tests of infra/ against a real OpenStack control plane; `make test-infra` runs them."""
