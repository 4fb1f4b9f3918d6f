"""The local Triton server: its environment, its command, its watchdog; and the connection to any Triton."""
