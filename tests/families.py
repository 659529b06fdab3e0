"""Chat templates of our own writing that behave as those of known families do, and some odder ones.

Each is small; what it has of its family is what makes masks hard there.
"""

import re
from pathlib import Path
from typing import Any

from models.template import ChatTemplate

MARKER = re.compile(r"<\|[^|<>\s]+\|>|</?[a-z_]+>|\[/?[A-Z_]+\]")

CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# Thoughts of answers before the last question are left out; the last answer has a block of them,
# empty if there are none. Calls are JSON, tool answers are the user's.
QWEN3 = """{% if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}{% set ns = namespace(asked=-1) %}{% for m in messages %}{% if m.role == 'user' %}\
{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}\
{% if m.role == 'user' or (m.role == 'system' and not loop.first) %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% elif m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{% elif m.role == 'assistant' %}<|im_start|>assistant
{% if loop.index0 > ns.asked and (loop.last or m.reasoning_content) %}<think>
{{ m.reasoning_content or '' }}
</think>

{% endif %}{{ m.content }}{% for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""

# No system role; user and model take turns strictly; contents are trimmed.
GEMMA = """{{ bos_token }}{% if messages[0].role == 'system' %}\
{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}\
{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}\
{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{{ m.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""

# The system prompt stands in the last user turn; ids of calls have nine letters and digits.
MISTRAL = """{{ bos_token }}{% set first = messages[0] %}\
{% set sys = first.content if first.role == 'system' else '' %}\
{% set rest = messages[1:] if sys else messages %}\
{% set users = rest | selectattr('role', 'equalto', 'user') | list %}\
{% set ns = namespace(at=0) %}{% for m in rest %}\
{% if m.role in ('user', 'assistant') and not m.tool_calls %}\
{% if (m.role == 'user') != (ns.at % 2 == 0) %}\
{{ raise_exception('After the optional system message, roles must alternate') }}{% endif %}\
{% set ns.at = ns.at + 1 %}{% endif %}{% endfor %}\
{% for m in rest %}{% if m.role == 'user' %}{% if tools and loop.last %}[AVAILABLE_TOOLS] \
{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST] {% if sys and m == users[-1] %}{{ sys }}

{% endif %}{{ m.content }}[/INST]{% elif m.tool_calls %}[TOOL_CALLS] [\
{% for call in m.tool_calls %}\
{% if call.id | length != 9 %}\
{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}\
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, \
"id": "{{ call.id }}"}{{ ', ' if not loop.last }}{% endfor %}]{{ eos_token }}\
{% elif m.role == 'tool' %}[TOOL_RESULTS] {"content": {{ m.content | tojson }}, \
"call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]{% elif m.role == 'assistant' %}\
 {{ m.content | trim }}{{ eos_token }}{% else %}\
{{ raise_exception('Only user, assistant and tool roles are supported') }}{% endif %}{% endfor %}"""

# The prompt ends in the beginning of a thought; thoughts are cut out of all that was said. Calls
# are glued together as text, so that arguments must be text.
DEEPSEEK = """{{ bos_token }}\
{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}\
{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}\
{% elif m.role == 'assistant' %}<|Assistant|>{{ m.content.split('</think>')[-1] }}\
{% for call in m.tool_calls or [] %}<|call|>{{ call.function.name + '
' + call.function.arguments }}<|/call|>{% endfor %}<|eos|>\
{% elif m.role == 'tool' %}<|output|>{{ m.content }}<|/output|>{% endif %}{% endfor %}\
{% if add_generation_prompt %}<|Assistant|><think>
{% endif %}"""

# An answer without thoughts has an empty block, which is not how the prompt begins one.
NEMOTRON = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}{% if m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>
{% else %}<think></think>{% endif %}{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>
{% endif %}{% endif %}"""

# Tools stand in the first user turn, one call at a time, `arguments` become `parameters`.
LLAMA = """{{ bos_token }}<|header|>system<|/header|>

{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}<|eot|>\
{% for m in messages %}{% if m.role == 'user' %}<|header|>user<|/header|>

{% if tools and (loop.first or loop.index0 == 1) %}{{ tools | tojson }}

{% endif %}{{ m.content | trim }}<|eot|>{% elif m.tool_calls %}{% if m.tool_calls | length > 1 %}\
{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}\
<|header|>assistant<|/header|>

{"name": "{{ m.tool_calls[0].function.name }}", \
"parameters": {{ m.tool_calls[0].function.arguments | tojson }}}<|eot|>\
{% elif m.role == 'tool' %}<|header|>ipython<|/header|>

{{ m.content | tojson }}<|eot|>{% elif m.role != 'system' or not loop.first %}\
<|header|>{{ m.role }}<|/header|>

{{ m.content | trim }}<|eot|>{% endif %}{% endfor %}\
{% if add_generation_prompt %}<|header|>assistant<|/header|>

{% endif %}"""

# Channels: thoughts and calls are messages of their own, and are left out once there is an answer.
# The last answer ends in another marker than earlier ones.
HARMONY = """<|start|>system<|message|>You think in channels.<|end|>\
{% if messages[0].role in ('system', 'developer') %}<|start|>developer<|message|>\
{{ messages[0].content }}<|end|>{% set messages = messages[1:] %}{% endif %}\
{% for m in messages %}{% set after = messages[loop.index:] %}\
{% if m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>\
{% elif m.role == 'tool' %}<|start|>tool to=assistant<|message|>{{ m.content | tojson }}<|end|>\
{% elif m.role == 'assistant' and m.tool_calls %}\
{% set answers = after | selectattr('role', 'equalto', 'assistant') %}\
{% if m.thinking and not answers | rejectattr('tool_calls') | list %}\
<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}\
<|start|>assistant to=functions.{{ m.tool_calls[0].function.name }}<|channel|>commentary\
<|message|>{{ m.tool_calls[0].function.arguments | tojson }}<|call|>\
{% elif m.role == 'assistant' and loop.last and not add_generation_prompt %}{% if m.thinking %}\
<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}\
<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|return|>\
{% elif m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>\
{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"""

# Nothing ends a turn but the beginning of the next.
GLM = """{% for m in messages %}{% if m.role == 'tool' %}<|observation|>{% else %}<|{{ m.role }}|>\
{% endif %}{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>{{ call.function.name }}\
{% for name, value in call.function.arguments.items() %} {{ name }}={{ value }}{% endfor %}\
</tool_call>{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}\
{# <|user|> <|system|> <|observation|> #}"""

# A marker more at the very end.
PHI3 = """{% for m in messages %}<|{{ m.role }}|>
{{ m.content }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% else %}{{ eos_token }}{% endif %}"""

# Says itself what is generated: here not the thoughts.
MARKED = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>\
{% endif %}{% generation %}{{ m.content }}<|im_end|>
{% endgeneration %}{% else %}{{ m.content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# Of a multimodal model: content comes in parts.
PARTS = """{% for m in messages %}{{ m.role | capitalize }}:{% for part in m.content %}\
{% if part.type == 'text' %} {{ part.text }}{% endif %}{% endfor %}<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""

# As PARTS, and fails where content is plain text; it has no prompt of its own.
LLAVA = """{% for m in messages %}{% if m.role == 'system' %}{{ '<<SYS>>
' + m.content[0].text + '
<</SYS>>

' }}{% elif m.role == 'user' %}[INST] {% for part in m.content %}\
{{ part.text }}{% endfor %} [/INST]{% else %}\
{{ ' ' + m.content[0].text + '</s> ' }}{% endif %}{% endfor %}"""

# Shows the model no more than the last three messages.
WINDOW = """{% for m in messages[-3:] %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# Tells in its first line how many messages there are.
COUNTING = """<|count|>{{ messages | length }}
{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# Writes no markers at all.
BARE = """{% for m in messages %}{{ m.role }}: {{ m.content }}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""

# Broken: leaves out the end of every answer.
CLIPPED = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content[:12] if m.role == 'assistant' else m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

FAMILIES = {
    name.lower(): text for name, text in vars().items() if name.isupper() and isinstance(text, str)
}


def chat_template(model: Path, text: str, *, fold_system: bool = True, **settings: Any) -> Any:
    """A template with the tokenizer of a tiny model, to which its markers are added."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.bos_token, tokenizer.eos_token = "<bos>", "<eos>"
    tokenizer.add_special_tokens(
        {"additional_special_tokens": sorted({*MARKER.findall(text), "<bos>", "<eos>"})}
    )
    tokenizer.chat_template = text
    return ChatTemplate(tokenizer, settings, fold_system=fold_system)
