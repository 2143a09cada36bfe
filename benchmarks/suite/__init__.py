"""The asv suite. It has a folder of its own because asv imports every file beside a benchmark."""
