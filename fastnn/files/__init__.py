"""Files: model files in the safetensors format, and atomic writes."""
