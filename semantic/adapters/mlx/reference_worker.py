"""The reference's own process: mlx_lm and nothing of the engine.

Reads one JSON request a line on stdin, writes one JSON answer a line on what was stdout; everything that a library
prints goes to stderr. Ends with its stdin. Started by :class:`~semantic.adapters.mlx.reference.SubprocessReference`.
"""

import argparse
import sys
import time
from typing import Any

from semantic.adapters.json_worker import answers_on_stdout, serve, tell


class Reference:
    """``mlx_lm.stream_generate`` on one loaded model, greedy, everything else at mlx_lm's defaults."""

    def __init__(self, name: str) -> None:
        import semantic

        self._model, self._tokenizer = semantic.load(name)

    @property
    def eos_token_ids(self) -> list[int]:
        """The ids that end a sequence."""
        return sorted(self._tokenizer.eos_token_ids)

    def generate(
        self, prompt: str | list[Any], max_tokens: int, prefill_step_size: int | None, want_top2: bool
    ) -> dict[str, Any]:
        """One run. The joined text is what ``mlx_lm.generate`` returns: it joins the same pieces."""
        from mlx_lm import stream_generate

        options = {} if prefill_step_size is None else {"prefill_step_size": prefill_step_size}
        prompt = self._rendered(prompt)
        pieces, token_ids, top2 = [], [], []
        ttft_s, response = 0.0, None
        start = time.perf_counter()
        for response in stream_generate(self._model, self._tokenizer, prompt, max_tokens=max_tokens, **options):
            ttft_s = ttft_s or time.perf_counter() - start
            pieces.append(response.text)
            token_ids.append(int(response.token))
            if want_top2:
                top2.append(_top2(response.token, response.logprobs))
        total_s = time.perf_counter() - start
        if response is None:
            raise ValueError("mlx_lm yielded nothing")
        if response.finish_reason == "stop":
            token_ids.pop()
        return {
            "text": "".join(pieces),
            "token_ids": token_ids,
            "finish_reason": response.finish_reason,
            "prompt_tokens": int(response.prompt_tokens),
            "top2": top2,
            "ttft_s": ttft_s,
            "total_s": total_s,
        }

    def _rendered(self, prompt: str | list[Any]) -> str | list[int]:
        """Chat messages as mlx_lm's own command line renders them; text and ids go to mlx_lm as they are."""
        if not isinstance(prompt, list) or not prompt or not isinstance(prompt[0], dict):
            return prompt
        text = self._tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def _top2(token: int, logprobs: Any) -> list[float]:
    """The drawn token, the best of the others, and the gap between their log-probabilities."""
    import mlx.core as mx

    values = logprobs.astype(mx.float32)
    others = mx.where(mx.arange(values.size) == token, -mx.inf, values)
    second: Any = mx.argmax(others).item()
    return [int(token), int(second), float((values[token] - values[second]).tolist())]


def main() -> None:
    """Load the model and serve until stdin ends."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", required=True)
    name = arguments.parse_args().model
    answers = answers_on_stdout()
    reference = Reference(name)
    tell(answers, {"eos_token_ids": reference.eos_token_ids})
    serve(reference.generate, sys.stdin, answers)


if __name__ == "__main__":
    main()
