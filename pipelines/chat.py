"""Instruction data: conversations to token ids and a target mask, with the tokenizer's chat template.

The loss counts on what the assistant says, the token that ends its turn included, and nowhere else. Where that is, the
template says itself if it marks it with ``{% generation %}``; else by rendering the conversation up to each of its turns:
what an assistant turn adds behind the prompt for it is the assistant's. A template for which a longer conversation does
not begin with the shorter one (some remove earlier reasoning) cannot be used in this way and is refused.

A conversation may spell control tokens (``<|im_end|>``) in its text; they are encoded as ordinary characters, so that no
message can end itself or pretend to be another role. Templates run in jinja's sandbox, and see a fixed date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError, TemplateSyntaxError
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ground.errors import UserError
from ground.files import canonical_json, write_atomic
from pipelines.tokenizer import LoadedTokenizer, load_tokenizer

Message = dict[str, Any]
Encoded = tuple[NDArray[np.uint32], NDArray[np.bool_]]

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% if message['role'] == 'assistant' %}{% generation %} {{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %} {{ message['content'] }}{% endif %}{{ '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For a tokenizer without a chat template: ``User: ...``, a blank line, ``Assistant: ...`` and the end-of-document token,
so that it needs no token that a base model has not learned. The space after ``Assistant:`` belongs to the answer, since
byte-level tokenizers join it to the first word."""

TEMPLATE_FILE, SPECIAL_TOKENS_FILE = "chat_template.jinja", "special_tokens_map.json"
_FIXED_DATE = (
    "{% macro strftime_now(format) %}{{ format | replace('%Y', '2024') | replace('%y', '24') | replace('%m', '07')"
    " | replace('%d', '26') | replace('%B', 'July') | replace('%b', 'Jul') | replace('%A', 'Friday')"
    " | replace('%a', 'Fri') | replace('%H', '00') | replace('%M', '00') | replace('%S', '00') }}{% endmacro %}{{ '' }}"
)
"""Put before a template that asks for today's date: a store must not depend on the day it is made. 26 July 2024 is what
Llama 3's own template falls back to."""
_GENERATION = re.compile(r"{%-?\s*generation\s*-?%}")
# Characters that Unicode keeps out of texts; they stand around control tokens spelled in a message.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_EMPTY: Encoded = (np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.bool_))


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer with its chat template."""

    name: str
    """Folder or name, for errors."""
    loaded: LoadedTokenizer
    template: str | None
    """None: ``PLAIN_TEMPLATE``."""
    special_tokens: dict[str, str]
    """What a template may name: ``bos_token``, ``eos_token`` and the like."""


@lru_cache(maxsize=4)
def load_chat_tokenizer(path_or_name: str, field: str = "curation.tokenizer") -> ChatTokenizer:
    """Load a tokenizer and its chat template from a folder or, by name, from the Hugging Face hub or its cache.

    Raises:
        UserError: there is no such tokenizer or it cannot be read.
    """
    loaded = load_tokenizer(path_or_name, field)
    folder = Path(path_or_name).expanduser()
    if not folder.is_dir():
        from transformers import AutoTokenizer  # takes seconds to import, and a folder does without

        theirs: Any = AutoTokenizer.from_pretrained(path_or_name, trust_remote_code=False)
        template, special = _default_template(theirs.chat_template), _token_texts(theirs.special_tokens_map)
        return ChatTokenizer(path_or_name, loaded, template, special | {"eos_token": loaded.eos_token})
    config = _read_json(folder / "tokenizer_config.json", field)
    special = _token_texts(_read_json(folder / SPECIAL_TOKENS_FILE, field)) | _token_texts(config)
    file = folder / TEMPLATE_FILE
    template = file.read_text(encoding="utf-8") if file.is_file() else _default_template(config.get("chat_template"))
    return ChatTokenizer(path_or_name, loaded, template, special | {"eos_token": loaded.eos_token})


def carry_chat_template(path_or_name: str, folder: Path) -> None:
    """Put a tokenizer's chat template and the names of its special tokens into a folder where ``save_tokenizer`` has put
    the tokenizer itself, so that ``load_chat_tokenizer`` and ``AutoTokenizer`` find them there.

    Raises:
        UserError: there is no such tokenizer or it cannot be read.
    """
    chat = load_chat_tokenizer(path_or_name)
    if chat.template is not None:
        write_atomic(folder / TEMPLATE_FILE, chat.template)
        write_atomic(folder / SPECIAL_TOKENS_FILE, canonical_json(chat.special_tokens))


def encode_chats(tokenizer: ChatTokenizer | str, messages: Sequence[str]) -> list[Encoded]:
    """Token ids and target mask of conversations, each followed by the end-of-document token as any document is.

    Args:
        tokenizer: loaded, or its folder or name.
        messages: each a JSON list of ``{"role": ..., "content": ...}``; other keys are passed on to the template.

    Returns:
        For each conversation the ids, uint32 of shape [n], and the mask, bool of shape [n]: true where the loss counts.
        Both are empty where the text is no conversation or the template refuses it, for example for a role it does not
        know. The end-of-document token counts only if the template gives the last answer no end of its own.

    Raises:
        UserError: the template is broken, or cannot tell what the assistant says.
    """
    chat = load_chat_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
    renderer = _Renderer(chat)
    rendered = [renderer.render(parsed) if (parsed := _parse(text)) else None for text in messages]
    texts = [text for text, _ in filter(None, rendered)]
    encoded = iter(_encode(chat.loaded.tokenizer, texts))
    return [_EMPTY if one is None else _with_mask(chat, renderer, one, *next(encoded)) for one in rendered]


class _Renderer:
    """Conversations to text, and the spans of it that the assistant says."""

    def __init__(self, chat: ChatTokenizer) -> None:
        self._chat = chat
        self._template = chat.template if chat.template is not None else PLAIN_TEMPLATE
        self._marked = bool(_GENERATION.search(self._template))
        if "strftime_now" in self._template:
            self._template = _FIXED_DATE + self._template
        added = chat.loaded.tokenizer.get_added_tokens_decoder().values()
        control = sorted((token.content for token in added if token.special), key=lambda text: (-len(text), text))
        self._control = re.compile("|".join(map(re.escape, control)) or "(?!)")
        self.closed = re.compile(rf"({self._control.pattern})\s*\Z")

    def render(self, messages: list[Message]) -> tuple[str, list[tuple[int, int]]] | None:
        """The text and the assistant's spans in it; None if the template refuses the conversation."""
        quoted = [_quote(message, self._control) for message in messages]
        try:
            if self._marked:
                return self._apply(quoted, spans=True)
            text, spans = self._apply(quoted)[0], []
            for index, message in enumerate(quoted):
                if message["role"] != "assistant":
                    continue
                before = self._apply(quoted[:index], prompt=True)[0]
                through = text if index + 1 == len(quoted) else self._apply(quoted[: index + 1])[0]
                if not (text.startswith(through) and through.startswith(before)):
                    raise self._unusable()
                spans.append((len(before), self._without_space_after_end(through)))
            return text, spans
        except TemplateSyntaxError as error:
            raise UserError(
                "curation.tokenizer",
                f"the chat template of {self._chat.name!r} is broken ({error.message})",
                f"mend {TEMPLATE_FILE}",
            ) from None
        except (TemplateError, TypeError, ValueError):
            return None

    def _apply(
        self, messages: list[Message], *, prompt: bool = False, spans: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        from transformers.utils import chat_template_utils  # takes a second to import

        render: Any = chat_template_utils.render_jinja_template  # its annotation says that it returns one text
        texts, found = render(
            [messages],
            chat_template=self._template,
            add_generation_prompt=prompt,
            return_assistant_tokens_mask=spans,
            **self._chat.special_tokens,
        )
        return texts[0], [(start, end) for start, end in found[0]] if spans else []

    def _without_space_after_end(self, text: str) -> int:
        """Where the text ends, but for the space that a template puts behind a turn's last control token."""
        found = self.closed.search(text)
        return found.end(1) if found else len(text)

    def _unusable(self) -> UserError:
        return UserError(
            "curation.tokenizer",
            f"the chat template of {self._chat.name!r} writes the start of a conversation differently once it goes on",
            "mark what the assistant says with {% generation %} ... {% endgeneration %} in the template",
        )


def _parse(text: str) -> list[Message] | None:
    """The messages of a conversation, or None if it is none."""
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(messages, list) or not messages:
        return None
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return None
        if not isinstance(message.get("content"), str):
            return None
    return messages


def _quote(value: Any, control: re.Pattern[str]) -> Any:
    """The same value with valid Unicode and with quotes around control tokens."""
    if isinstance(value, str):
        text = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return control.sub(rf"{_OPEN}\g<0>{_CLOSE}", re.sub(f"[{_OPEN}{_CLOSE}]", "\ufffd", text))
    if isinstance(value, dict):
        return {key: _quote(entry, control) for key, entry in value.items()}
    if isinstance(value, list):
        return [_quote(entry, control) for entry in value]
    return value


def _encode(tokenizer: Tokenizer, texts: list[str]) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
    """Ids and their spans of characters, [n, 2], in each text; what stands between quotes gets no control tokens."""
    pieces = [list(_pieces(text)) for text in texts]
    queues = []
    for quoted in (False, True):
        tokenizer.encode_special_tokens = quoted
        chosen = [piece for text in pieces for _, piece, in_quotes in text if in_quotes is quoted]
        queues.append(iter(tokenizer.encode_batch(chosen, add_special_tokens=False)))
    for text in pieces:
        ids: list[int] = []
        spans = [np.empty((0, 2), dtype=np.int64)]
        for start, _, in_quotes in text:
            encoding = next(queues[in_quotes])
            ids += encoding.ids
            spans.append(np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) + start)
        yield ids, np.concatenate(spans)


def _pieces(text: str) -> Iterator[tuple[int, str, bool]]:
    """Start, text, and whether it stood between quotes. A quote that a template has parted from its other half is dropped."""
    done = 0
    for quote in re.finditer(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}|[{_OPEN}{_CLOSE}]", text):
        if quote.start() > done:
            yield done, text[done : quote.start()], False
        if quote.group(1):
            yield quote.start(1), quote.group(1), True
        done = quote.end()
    if done < len(text):
        yield done, text[done:], False


def _with_mask(
    chat: ChatTokenizer,
    renderer: _Renderer,
    rendered: tuple[str, list[tuple[int, int]]],
    ids: list[int],
    characters: NDArray[np.int64],
) -> Encoded:
    """The ids with the end-of-document token, and the mask: a token counts if a character of it is the assistant's."""
    text, spans = rendered
    mask = np.zeros(len(ids) + 1, dtype=np.bool_)
    for start, end in spans:
        mask[:-1] |= (characters[:, 1] > start) & (characters[:, 0] < end)
    if spans:
        start, end = spans[-1]
        mask[-1] = not text[end:].strip() and not renderer.closed.search(text[start:end])
    return np.array([*ids, chat.loaded.eos_id], dtype=np.uint32), mask


def _default_template(value: Any) -> str | None:
    """The template to use of what a tokenizer's configuration holds: a text, or several by name."""
    if isinstance(value, list):
        value = {entry["name"]: entry["template"] for entry in value}
    if isinstance(value, dict):
        value = value.get("default")
    return value if isinstance(value, str) else None


def _token_texts(config: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name, token in config.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def _read_json(file: Path, field: str) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(field, f"cannot read {file} ({error})", "write it anew") from None
    return value if isinstance(value, dict) else {}
