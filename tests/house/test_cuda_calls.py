"""Every call of CUDA's libraries is checked: its result goes to a check, is looked at, or is returned. One that is
ignored on purpose is spelled `(void)call(...);` with a comment that says why, on its line or the line above, or the
comment of its function says that "Errors have nobody to go to".

Read from the text: rooms, without tests. planted/cuda_calls.cu has mistakes, each in a function of its own.
"""
import re

from tree import ROOMS, files, finish, read, room_of

CALL = re.compile(r"\b((?:cuda|cublas|cublasLt|cudnn|nccl|cu)[A-Z]\w*)\s*\(")
# They return no status.
NO_STATUS = re.compile(r"cuda\w*Error(Name|String)|cublas\w*Status(Name|String)|\w+ErrorString"
                       r"|ncclGetLastError|(cublasLt|cudnn)GetVersion|\w+_t")
# Functions and macros that look at a status, with an error for what is none.
CHECKS = {"FBI_CUDA_TRY", "FBI_LT_TRY", "fbi_cudnn_failed", "status_of"}
CONTROL = {"if", "while", "switch"}
LAUNCH = re.compile(r"<<<|\bLAUNCH\s*\(")
LAUNCHES = {"core/cuda/launch_priv.h", "core/cuda/kernel_priv.h"}  # FBI_LAUNCH checks after itself
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"' r"|'(?:\\.|[^'\\\n])*'", re.S)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def balanced(text, close):
    """The place of the bracket that text[close] closes."""
    depth = 0
    for i in range(close, -1, -1):
        depth += (text[i] in ")]") - (text[i] in "([")
        if depth == 0:
            return i
    return 0


def expression_start(text, at):
    """Where `of(ctx)->api.ncclSend` begins, when `at` is the place of ncclSend."""
    while True:
        before = text[:at].rstrip()
        if not before.endswith(("->", ".", "::")):
            return at
        at = len(before) - (1 if before.endswith(".") else 2)
        while at > 0 and text[at - 1] in ")]":
            at = balanced(text, at - 1)
        while at > 0 and re.match(r"\w", text[at - 1]):
            at -= 1


def head_of(text, start):
    """(What stands between the beginning of the statement, or the bracket around it, and the call;
    who opens that bracket, or None; where it opens)."""
    depth = 0
    for i in range(start - 1, -1, -1):
        c = text[i]
        if depth == 0 and c in ";{}":
            return text[i + 1:start], None, i
        depth += (c in ")]") - (c in "([")
        if depth < 0:
            name = re.search(r"(\w*)\s*$", text[:i]).group(1)
            return text[i + 1:start], name, i
    return text[:start], None, 0


def without_brackets(head):
    """`for () if () (void)`: what does not stand in brackets that are closed, but for (void)."""
    before, head = None, re.sub(r"\\\n", " ", head).strip()
    while head != before:
        before, head = head, re.sub(r"\((?!void\))[^()]+\)", "()", head)
    return head


def looked_at(name, rest):
    """Whether a variable is read in the rest of its function, before it gets another value."""
    found = re.search(rf"(?<![\w.>]){re.escape(name)}\b", rest)
    if not found:
        return False
    between, after = rest[:found.start()], rest[found.end():].lstrip()
    again = re.match(r"=(?!=)([^;]*);", after)
    overwritten = again and not re.search(rf"(?<![\w.>]){re.escape(name)}\b", again.group(1))
    return not overwritten or bool(re.search(r"\b(else|case|default|break|return)\b|}", between))


def said_why(raw, text, call):
    """A comment on the line of the call's end, or alone on the line above; or the function's."""
    function = raw.rfind("\n{\n", 0, call)
    comment = raw[raw.rfind("\n\n", 0, function):function]
    if re.search(r"Errors have nobody\s+(\* )?to go to", comment):
        return True
    end = text.index(";", call)
    begin = raw.rindex("\n", 0, call) + 1
    last = raw.find("\n", end)
    above = raw[raw.rfind("\n", 0, begin - 1) + 1:begin].strip()
    return "/*" in raw[end:last] or above.endswith("*/") and above.startswith(("/*", "*"))


def mistake(raw, text, match):
    """What is wrong with one call; None: nothing."""
    name = match.group(1)
    start = expression_start(text, match.start())
    if NO_STATUS.fullmatch(name):
        return None
    head, opener, at = head_of(text, start)
    while opener is not None:
        if opener in CHECKS or opener in CONTROL or opener == "return":
            return None
        if opener and re.search(r"=(?!=)", head) is None:
            return f"{name}: its result goes to {opener}, which is no check"
        more, opener, at = head_of(text, at)
        head = more + head
    head = without_brackets(head)
    assigned = re.search(r"([\w.>-]+)\s*=(?!=)(?!.*[^=!<>]=(?!=))", head, re.S)
    if assigned:
        rest = text[text.index(";", match.end()):text.find("\n}", match.end())]
        return None if looked_at(assigned.group(1), rest) else f"{name}: {assigned.group(1)} is not looked at"
    if head.startswith("return"):
        return None
    if head.endswith("(void)"):
        return None if said_why(raw, text, start) else f"{name}: ignored, and no comment says why"
    if re.search(r"\w[\w\s*]*$", head) and not re.search(r"\b(else|do)$", head):
        return None  # a declaration
    return f"{name}: its result is not checked"


def mistakes(path):
    raw = read(path)
    text = COMMENT.sub(blank, raw)
    found = []
    for match in CALL.finditer(text):
        what = mistake(raw, text, match)
        if what:
            found.append((match.start(), what))
    if path not in LAUNCHES:
        found += [(m.start(), "a launch that is not FBI_LAUNCH") for m in LAUNCH.finditer(text)]
    return [(text.count("\n", 0, at) + 1, what) for at, what in found]


def planted(path):
    """Functions wrong_x have one mistake, functions right_x none."""
    broken, lines = [], read(path).split("\n")
    found = mistakes(path)
    names = [re.search(r"\b((?:wrong|right)_\w+)\(", line) for line in lines]
    starts = [(i + 1, name.group(1)) for i, name in enumerate(names) if name]
    for (begin, name), (end, _) in zip(starts, starts[1:] + [(len(lines) + 1, "")]):
        inside = [f"{line}: {what}" for line, what in found if begin <= line < end]
        if len(inside) != (1 if name.startswith("wrong_") else 0):
            broken.append(f"{path}: of {name} is said: {inside}")
    return broken if starts else [f"{path}: nothing is planted"]


broken = planted("tests/house/planted/cuda_calls.cu")
calls = 0
for path in files():
    if room_of(path) in ROOMS and path.endswith((".c", ".h", ".cu")):
        calls += len(CALL.findall(read(path)))
        broken += [f"{path}:{line}: {what}" for line, what in mistakes(path)]
if calls < 50:
    broken.append(f"only {calls} calls are seen: the pattern does not fit any more")
finish(f"{calls} calls", broken)
