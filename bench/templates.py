"""Masks under the chat templates of real model families, against masks that others made by hand.

    python -m bench.templates [NAME...]

The templates are those in TRL's wheel, of the version in `bench/peers/trl.txt`: downloaded below
`build/`, read there, and copied nowhere. For most of them TRL has a twin for training in which
`{% generation %}` marks what the assistant says; some mark it themselves; for the few others the
family's own markers are the truth (`MARKERS`). Every kind of conversation is encoded as training
does it, and the token ids that carry loss are compared, turn by turn, with those of the marked
text, but for what the template itself writes in the prompt and white space after the turn, which no
model has to generate. The tokenizer is the bundled model's with the template's markers added.

A conversation that a template cannot write is to be refused with a reason. Last, the proof that
runs before each training judges all masks. The last line is one JSON object.
"""

import argparse
import json
import re
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from bench.peers.environment import PEERS
from bench.train import prepared
from data_contracts.records import Message, Record, ToolCall
from models.base import Base, load_tokenizer
from models.chat import IGNORED, encode
from models.proof import Masks
from models.template import ChatTemplate, Prepared, TemplateRefusal, common_prefix, content_of

MARKER = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<\uff5c[^\uff5c]{1,40}\uff5c>|</?[a-z_]{1,30}>|<\|[a-z_]+>|<[a-z_]+\|>|\[/?[A-Z_]+\]"
)
# Where an answer begins and ends in families of which nobody marked it: after any of the first, up
# to and with any of the second.
MARKERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "llama3_1": (("<|start_header_id|>assistant<|end_header_id|>\n\n",), ("<|eot_id|>",)),
    "gemma4": (
        ("<|turn>model\n", "<turn|>\n", "<tool_response|>"),
        ("<turn|>", "<|tool_response>"),
    ),
}
MARKERS |= {"llama3_2": MARKERS["llama3_1"]}
MARKERS |= {f"gemma4_v{version}": MARKERS["gemma4"] for version in range(2, 6)}
# What a model stops at that TRL's twin leaves to the tool.
STOPS = ("<|tool_response>",)
PARTS = ("idefics3", "lfm2_2_5_vl", "llava_next", "qwen2_5_vl", "qwen3_vl", "smolvlm")


def wheel() -> Path:
    """TRL's wheel alone, without what it needs."""
    folder = Path("build") / "bench" / "wheels"
    pin = re.search(r"^trl==\S+$", (PEERS / "trl.txt").read_text("utf-8"), re.MULTILINE)
    if pin is None:
        raise SystemExit("bench/peers/trl.txt names no version of trl")
    if not list(folder.glob("trl-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        subprocess.run([*command, pin[0]], check=True)
    return next(folder.glob("trl-*.whl"))


def templates() -> dict[str, str]:
    with zipfile.ZipFile(wheel()) as archive:
        return {
            Path(name).stem: archive.read(name).decode("utf-8")
            for name in archive.namelist()
            if name.startswith("trl/chat_templates/") and name.endswith(".jinja")
        }


# -- conversations -------------------------------------------------------------------


def user(content: str) -> Message:
    return Message(role="user", content=content)


def said(content: str = "", *calls: tuple[str, dict[str, Any]], **more: Any) -> Message:
    made = tuple(
        ToolCall(id=f"call_{name}", name=name, arguments=json.dumps(arguments))
        for name, arguments in calls
    )
    return Message(role="assistant", content=content, tool_calls=made, **more)


def answered(content: str, name: str) -> Message:
    return Message(role="tool", content=content, name=name, tool_call_id=f"call_{name}")


def offered(*names: str) -> str:
    city = {"type": "string", "description": "Which city."}
    parameters = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    functions = [
        {"name": name, "description": f"Reads the {name}.", "parameters": parameters}
        for name in names
    ]
    return json.dumps([{"type": "function", "function": one} for one in functions])


WEATHER, TIDE = ("get_weather", {"city": "Oslo"}), ("get_tide", {"city": "Oslo"})
ASKED, MORE = user("How warm is it in Oslo?"), user("And what about Lima?")
BRIEF = "Answer in a few words only."
CHATS: dict[str, tuple[Message, ...]] = {
    "plain": (ASKED, said("Rather mild today.")),
    "several turns": (
        ASKED,
        said("Rather mild today."),
        MORE,
        said("Humid, as ever."),
        user("Thank you!"),
        said("You are welcome."),
    ),
    "system": (
        Message(role="system", content=BRIEF),
        ASKED,
        said("Mild."),
        MORE,
        said("Humid, as ever."),
    ),
    "developer": (Message(role="developer", content=BRIEF), ASKED, said("Rather mild today.")),
    "tools offered": (user("How are you?"), said("Fine, thanks.")),
    "tool call": (
        ASKED,
        said("", WEATHER),
        answered("14 degrees", "get_weather"),
        said("Mild there, I hear."),
        user("Thank you!"),
        said("You are welcome."),
    ),
    "call beside text": (
        ASKED,
        said("Let me look that up.", WEATHER),
        answered("14 degrees", "get_weather"),
        said("Mild there, I hear."),
    ),
    "parallel calls": (
        user("How warm is it in Oslo, and is the tide high?"),
        said("", WEATHER, TIDE),
        answered("14 degrees", "get_weather"),
        answered("rising", "get_tide"),
        said("Mild, and not yet."),
    ),
    "calls in a row": (
        user("How warm is it in Oslo, and is the tide high?"),
        said("", WEATHER),
        answered("14 degrees", "get_weather"),
        said("", TIDE),
        answered("rising", "get_tide"),
        said("Mild, and not yet."),
    ),
    "reasoning": (ASKED, said("Rather mild.", reasoning="The Gulf Stream warms it.")),
    "reasoning in turns": (
        ASKED,
        said("Rather mild.", reasoning="The Gulf Stream warms it."),
        MORE,
        said("Humid, as ever.", reasoning="Fog comes from the sea."),
        user("Thank you!"),
        said("You are welcome."),
    ),
    "reasoning and calls": (
        ASKED,
        said("", WEATHER, reasoning="I need the forecast."),
        answered("14 degrees", "get_weather"),
        said("Mild there, I hear.", reasoning="The tool said so."),
    ),
    "not all learnt": (
        ASKED,
        said("Rather mild today."),
        MORE,
        said("No idea, sorry.", learnt=False),
        user("So?"),
        said("Humid, as ever."),
    ),
}
WITH_TOOLS = {"tools offered", "tool call", "call beside text", "parallel calls"} | {
    "calls in a row",
    "reasoning and calls",
}


def records() -> dict[str, Record]:
    tools = offered("get_weather", "get_tide")
    return {
        kind: Record(
            id=kind, messages=chat, source="bench", tools=tools if kind in WITH_TOOLS else None
        )
        for kind, chat in CHATS.items()
    }


# -- the truth -----------------------------------------------------------------------


def with_tokenizer(base: Base, text: str) -> Any:
    tokenizer = load_tokenizer(base)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [*sorted(set(MARKER.findall(text))), "<bos>", "<eos>"]}
    )
    tokenizer.bos_token, tokenizer.eos_token = "<bos>", "<eos>"
    tokenizer.chat_template = text
    return tokenizer


def tokens(tokenizer: Any, text: str, spans: list[tuple[int, int]]) -> list[int]:
    """Ids of the tokens that hold any of these characters, without white space at the end."""
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    end = max((len(text[start:end].rstrip()) + start for start, end in spans[-1:]), default=0)
    spans = [*spans[:-1], (spans[-1][0], end)] if spans else []
    return [
        token
        for token, (left, right) in zip(
            encoding["input_ids"], encoding["offset_mapping"], strict=True
        )
        if any(left < stop and right > start for start, stop in spans)
    ]


class Truth:
    """What of a turn the assistant says, as others marked it."""

    def __init__(self, base: Base, name: str, known: dict[str, str]) -> None:
        twin = known.get(f"{name}_training", known[name])
        self.name = name
        self.template = ChatTemplate(with_tokenizer(base, twin))
        self.marked = self.template.marks_generation

    def of(self, prepared: Prepared, place: int) -> list[list[int]]:
        """Token ids of the turn, in the rendering that ends with it and in that of the whole."""
        chats = [_with_objects(chat) for chat in prepared.chats]
        said_before = [one for chat in chats[:place] if (one := content_of(chat).strip())]
        before = said_before[-1]
        found = []
        for shown in (chats[: place + 1], chats):
            text = self.template.write(shown, prepared.tools)
            asking = self._end_of_asking(text, shown, place)
            since = max(text.rfind(one, 0, asking) + len(one) for one in said_before)
            following = content_of(shown[place + 1]).strip() if shown[place + 1 :] else ""
            until = text.find(following, since) if following else len(text)
            if self.marked:
                marked = self.template.generated(shown, prepared.tools)
                spans = [
                    (max(a, since), min(b, until)) for a, b in marked if b > since and a < until
                ]
            else:
                calls = shown[place].get("tool_calls", ())
                called = [text.find(call["function"]["name"], since) for call in calls[:1]]
                spans = [self._between_markers(text, since, min([asking, until, *called]))]
            prompt = self.template.write(chats[:place], prepared.tools, prompt=True)
            asked = prompt[prompt.rfind(before) + len(before) :]
            given = common_prefix(asked, text[since:])
            if half := re.search(r"[<\[][^<>\[\]\s]*\Z", asked[:given]):
                given = half.start() if given < len(asked) else given
            start = since + given
            spans = [(max(left, start), right) for left, right in spans if right > start]
            found.append(tokens(self.template.tokenizer, text, spans))
        return found

    def _end_of_asking(self, text: str, shown: list[Any], place: int) -> int:
        """Where the search for the message before the turn ends: what the turn itself says."""
        words = content_of(shown[place]).strip()
        at = text.rfind(words) if words else -1
        return at if at >= 0 else len(text)

    def _between_markers(self, text: str, since: int, words: int) -> tuple[int, int]:
        """From the last beginning of an answer before the turn's own words to its first end."""
        begins, ends = MARKERS[self.name]
        opened = [at + len(one) for one in begins if (at := text.rfind(one, since, words)) >= 0]
        start = max([since, *opened])
        closed = [text.find(one, start) + len(one) for one in ends if one in text[start:]]
        return start, min(closed, default=len(text))


def _with_objects(chat: dict[str, Any]) -> dict[str, Any]:
    """TRL's twins take arguments as objects, also where the original takes text."""
    if "tool_calls" not in chat:
        return chat
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(a)}}
        if isinstance(a := call["function"]["arguments"], str)
        else call
        for call in chat["tool_calls"]
    ]
    return {**chat, "tool_calls": calls}


# -- the comparison ------------------------------------------------------------------


def judge(template: ChatTemplate, truth: Truth, record: Record) -> str:
    """`exact`, `refused: ...` or `wrong: ...`."""
    try:
        masks = Masks(template, record)
    except TemplateRefusal as refusal:
        return f"refused: {refusal.reason}"
    for rendering, example in zip(masks.renderings, masks.examples, strict=True):
        learnt = iter(_runs(example.labels))
        for turn in rendering.turns:
            own = [token for _ in turn.spans for token in next(learnt, [])]
            own = _stripped(template.tokenizer, own)
            if own not in (true := truth.of(masks.prepared, turn.place)):
                stops = template.tokenizer.convert_tokens_to_ids(list(STOPS))
                if own[-1] in stops and own[:-1] in true:
                    continue
                return f"wrong: turn {turn.place + 1}"
    for fault in masks.faults():
        return f"not proven: {fault}"
    return "exact"


def _runs(labels: tuple[int, ...]) -> list[list[int]]:
    runs: list[list[int]] = [[]]
    for label in labels:
        if label != IGNORED:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _stripped(tokenizer: Any, ids: list[int]) -> list[int]:
    while ids and tokenizer.decode(ids[-1:]).isspace():
        ids = ids[:-1]
    return ids


def rate(template: ChatTemplate, some: list[Record], seconds: float = 0.5) -> float:
    """Conversations encoded a second."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for record in some:
            encode(template, record.id, record, 10_000)
            count += 1
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="templates; default all")
    options = parser.parse_args()
    _, base = prepared()
    known, kinds = templates(), records()
    names = options.names or sorted(
        name for name in known if not name.endswith("_training") and name not in PARTS
    )
    names += [] if options.names else [name for name in PARTS if name in known]
    rows = []
    for name in names:
        template = ChatTemplate(with_tokenizer(base, known[name]))
        truth = Truth(base, name, known)
        found = {kind: judge(template, truth, record) for kind, record in kinds.items()}
        exact = sum(one == "exact" for one in found.values())
        refused = Counter(one for one in found.values() if one.startswith("refused"))
        wrong = {kind: one for kind, one in found.items() if one.startswith(("wrong", "not"))}
        source = "markers" if not truth.marked else "TRL" if f"{name}_training" in known else "own"
        rows.append(
            {
                "template": name,
                "truth": source,
                "multimodal": name in PARTS,
                "exact": exact,
                "refused": {
                    reason.removeprefix("refused: "): count for reason, count in refused.items()
                },
                "wrong": wrong,
                "conversations_per_second": round(rate(template, [kinds["several turns"]])),
            }
        )
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    print(
        json.dumps(
            {
                "templates": len(rows),
                "kinds": list(kinds),
                "exact": sum(row["exact"] for row in rows),
                "refused": sum(sum(row["refused"].values()) for row in rows),
                "wrong": sum(len(row["wrong"]) for row in rows),
                "rows": rows,
            },
            ensure_ascii=False,
        )
    )


if __name__ == "__main__":
    main()
