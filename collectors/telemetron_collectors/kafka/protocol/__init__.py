"""Kafka's protocol: requests to bytes, and answers and record batches from bytes. No I/O."""
