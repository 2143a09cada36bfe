"""All scenarios. What costs time is imported and compiled before the first, but no thread runs."""

import process_scenarios
import resource_scenarios
import thread_scenarios
from scenarios import run

if __name__ == "__main__":
    run([*thread_scenarios.ALL, *process_scenarios.ALL, *resource_scenarios.ALL])
