"""`python -m tests.real.build`: builds and fetches what the real tests run, where it is not yet.

Before the tests, so that none of them has to wait for a compiler.
"""

from tests.real import controlplane, toxiproxy
from tests.real.answers import tokenizers
from tests.real.deploy import image, kustomize
from tests.real.kafka import broker as kafka
from tests.real.litellm import proxy
from tests.real.mcp import clients as mcp
from tests.real.sdk import frameworks


def main() -> None:
    """Each says what it makes; what is there costs nothing."""
    for name, build in (
        ("toxiproxy", toxiproxy.build),
        ("Kubernetes", controlplane.build),
        ("frameworks", frameworks.build),
        ("tokenizers", tokenizers.build),
        ("LiteLLM", proxy.build),
        ("kustomize", kustomize.build),
        ("base and wheels of the image", image.build),
        ("MCP clients", mcp.build),
        ("Apache Kafka", kafka.build),
    ):
        print(f"{name} …", flush=True)
        build()


if __name__ == "__main__":
    main()
