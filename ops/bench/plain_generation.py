"""What vLLM is compared with: transformers' `generate`, greedy, batches of equal size, left-padded.

Runs in the teacher's environment, told what to do by JSON on its standard input: `model` (folder), `chats` (lists
of messages), `batch` and `max_new_tokens`. Writes JSON: seconds, tokens and the answers; loading does not count.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def generate(
    *, model: str, chats: list[list[dict[str, str]]], batch: int, max_new_tokens: int
) -> dict[str, Any]:
    """Answer every chat and return what it took. The first batch is answered once more before, to warm up."""
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    network.eval()

    def answer(part: list[list[dict[str, str]]]) -> tuple[list[str], int, int]:
        given: Any = tokenizer.apply_chat_template(
            part, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            told = network.generate(**given, do_sample=False, max_new_tokens=max_new_tokens)
        written = told[:, given["input_ids"].shape[1] :]
        # The first end token belongs to the answer, padding behind it does not.
        ends = (written == tokenizer.eos_token_id).int()
        after_end = ends.cumsum(dim=1) - ends
        tokens = int((after_end == 0).sum())
        return (
            tokenizer.batch_decode(written, skip_special_tokens=True),
            int(given["attention_mask"].sum()),
            tokens,
        )

    answer(chats[:batch])
    answers: list[str] = []
    prompt_tokens = completion_tokens = 0
    began_s = time.perf_counter()
    for start in range(0, len(chats), batch):
        texts, prompt, completion = answer(chats[start : start + batch])
        answers += texts
        prompt_tokens += prompt
        completion_tokens += completion
    return {
        "seconds": time.perf_counter() - began_s,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "answers": answers,
        "pss_mb": int(Path("/proc/self/smaps_rollup").read_text().split("Pss:")[1].split()[0]) / 1e3,
    }


if __name__ == "__main__":
    print(json.dumps(generate(**json.load(sys.stdin))))
