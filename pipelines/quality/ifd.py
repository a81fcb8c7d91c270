"""Instruction-following difficulty (IFD): how little an instruction helps a language model with its answer.

Li et al. 2024, "From Quantity to Quality" (IFD); Li et al. 2024, "Superfiltering" (the ratio of perplexities, under
a model as small as GPT-2, which they find to rank as much larger models do).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from pipelines.quality.conversations import Scores

_DECIMALS = 6  # beyond them sums of floats differ between kinds of processors


class IfdScorer:
    """Instruction-following difficulty of a conversation, IFD = PPL(answer | what came before) / PPL(answer).

    Near 1 the instruction does not help the model with the answer, so that there is much to learn; small where the answer
    follows easily. At 1 or above the instruction misleads: such pairs do not belong together, and the authors drop them. Hence
    the score is -IFD below 1, and +IFD from 1 on: the most difficult sound conversations first, mismatched ones last.

    Over several answers in a conversation both means run over the tokens of all of them. Documents are scored one by one and
    in one thread, so that a score is the same however they are batched and on however many workers.

    Args:
        model: a causal language model of `transformers`, in evaluation mode.
        tokenizer: its tokenizer.
        max_tokens: the longest input; an answer is cut to half of it, what came before to the last tokens that still fit.
    """

    reads: Literal["messages", "metadata"] = "messages"

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int) -> None:
        self._model, self._tokenizer, self._max_tokens = model, tokenizer, max_tokens
        self._start = next(token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, 0) if token is not None)

    def score(self, values: Sequence[str | None]) -> Scores:
        """See ``ColumnScorer``."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the split of a sum among threads shows in its last digits
        try:
            return np.array([self._score(text) for text in values])
        finally:
            torch.set_num_threads(threads)

    def _score(self, messages: str | None) -> float:
        turns = json.loads(messages) if messages else []
        given = alone = 0.0
        count = 0
        for index, turn in enumerate(turns):
            answer = self._ids(f" {turn['content']}")[: self._max_tokens // 2] if turn["role"] == "assistant" else []
            if answer:
                before = self._ids("".join(_spoken(earlier) for earlier in turns[:index]) + "Assistant:")
                before = before[-(self._max_tokens - 1 - len(answer)) :]
                given += self._cost([self._start, *before], answer)
                alone += self._cost([self._start], answer)
                count += len(answer)
        if not count:
            return math.inf
        ifd = round(math.exp((given - alone) / count), _DECIMALS)
        return -ifd if ifd < 1 else ifd

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return ids

    def _cost(self, before: list[int], answer: list[int]) -> float:
        """Sum of the negative log-likelihoods of the answer's tokens, in nats."""
        with torch.inference_mode():
            logits = self._model(input_ids=torch.tensor([before + answer]), logits_to_keep=len(answer) + 1).logits[
                0, :-1
            ]
            costs = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(answer), reduction="sum")
        return float(costs)


def _spoken(message: dict[str, str]) -> str:
    """A turn as plain text: small scoring models know no chat template."""
    return f"{message['role'].capitalize()}: {message['content']}\n\n"
