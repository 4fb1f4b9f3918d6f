"""What the two local servers, Triton and vLLM, have in common: preparation, processes, and the loop that watches."""
