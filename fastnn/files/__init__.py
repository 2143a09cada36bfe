"""Model files: safetensors, written whole or not at all."""
