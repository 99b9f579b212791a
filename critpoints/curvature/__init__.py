"""The second-order engine: dense and batched for small P."""
