# timeout: 1500
# labels: core sanitizers
"""Every public function of core/ is called: with arguments that make sense where their types say which, with NULL
and zero for everything, and with each pointer NULL in turn. The program is generated from the installed headers,
linked against the installed library, and must neither crash nor make a sanitizer speak. After a crash another
process goes on with the next call, so that all that crash are named; the last one must leak nothing."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

BUILD = os.environ["FLAMBEAU_BUILD"]
CC = os.environ.get("FLAMBEAU_CC", "cc")
SANITIZE = os.environ.get("FLAMBEAU_SANITIZE", "")
MARK = '__attribute__((visibility("default")))'

# Arguments that make sense, by type; or by function and name of the argument, for what a type does not say.
MAKERS = {
    "fb_context *": "e.ctx", "fb_tensor *": "e.x", "fb_module *": "e.m", "fb_optimizer *": "e.opt",
    "fb_meter *": "e.meter", "fb_profile *": "e.profile", "fb_profile_totals *": "&e.totals", "fb_ema *": "e.ema", "fb_schedule *": "e.schedule", "fb_scaler *": "e.scaler",
    "fb_shape": "FB_SHAPE(2, 3)", "fb_dtype": "FB_F32", "fb_tensors": "FB_TENSORS(e.x, e.x)",
    "fb_outs": "FB_OUTS(&e.out[0])", "fb_modules": "FB_MODULES(fb_nn_relu(e.ctx))", "fb_init": "fb_init_normal(0, 1)",
    "fb_scope": "e.scope", "fb_scope *": "&e.scope", "fb_tensor **": "e.out", "int": "1", "int64_t": "2",
    "uint64_t": "3", "size_t": "sizeof e.bytes", "double": "0.5", "bool": "true", "char *": "e.text",
    "void *": "e.bytes", "const int64_t *": "e.sizes", "bool *": "&e.flag", "fb_memory_stats *": "&e.stats", "fb_rng *": "&e.rng",
    "const char *": '"weight"', "const void *": "e.bytes", "fb_status": "FB_E_USER", "fb_checkpoint_fn": "identity",
    "fb_nn_visit": "visit", "fb_grad_fn": "keep_grad", "const fb_function *": "&function",
    "const fb_module_type *": "&module_type", "fb_op_description *": "&e.description", "fb_log_fn": "hear",
    "const fb_batch_info *": "&e.batch", "...": "1",
}
SPECIAL = {
    ("fb_from", "data"): "e.sizes_of_six", ("fb_wrap", "data"): "e.sizes_of_six", ("fb_wrap_const", "data"): "e.sizes_of_six",
    ("fb_read", "bytes"): "24", ("fb_write", "bytes"): "24", ("fb_to_string", "size"): "sizeof e.text",
    ("fb_error_take", "size"): "sizeof e.text", ("fb_fail", "fmt"): '"%d"', ("fb_context_open_v", "version"): "FB_VERSION",
    ("fb_nn_call", "fn"): "call", ("fb_schedule_lambda", "fn"): "halve", ("fb_ema_open", "decay"): "0.9",
    ("fb_optim_add_tensor", "leaf"): "e.leaf", ("fb_requires_grad", "t"): "e.leaf", ("fb_grad_of", "leaf"): "e.leaf",
    ("fb_op_call", "op"): '"add"', ("fb_op_call", "name"): '"add"', ("fb_checkpoint_call", "n_out"): "1",
    ("fb_op_call", "n_attrs"): "0", ("fb_nn_tie", "m"): "e.fresh", ("fb_nn_tie", "root"): "e.fresh",
    ("fb_profile_print", "path"): '"/dev/null"', ("fb_profile_write", "path"): '"/dev/null"',
    ("fb_nn_init", "root"): "e.fresh", ("fb_nn_to", "root"): "e.fresh", ("fb_nn_new", "self"): "&e.child", ("fb_wrap", "opts"): "NULL",
}
# What a call leaves behind that the test has to take away, or that must not be called on the shared objects.
INSTEAD = {
    # Handed to a module, which owns what was declared.
    "fb_nn_declare_param": ["fb_nn_close(fb_nn_parameter_list(e.ctx, FB_TENSORS(fb_nn_declare_param(e.ctx, FB_F32, FB_SHAPE(2, 3), fb_init_normal(0, 1)))))",
        "fb_nn_close(fb_nn_parameter_list(e.ctx, FB_TENSORS(fb_nn_declare_param(e.ctx, FB_F32, (fb_shape){0}, fb_init_normal(0, 1)))))",
        "(void)!fb_nn_declare_param(NULL, FB_F32, FB_SHAPE(2), fb_init_normal(0, 1))"],
    "fb_nn_declare_buffer": ["fb_nn_close(fb_nn_parameter_list(e.ctx, FB_TENSORS(fb_nn_declare_buffer(e.ctx, FB_F32, FB_SHAPE(2, 3), fb_init_normal(0, 1)))))",
        "fb_nn_close(fb_nn_parameter_list(e.ctx, FB_TENSORS(fb_nn_declare_buffer(e.ctx, FB_F32, (fb_shape){0}, fb_init_normal(0, 1)))))",
        "(void)!fb_nn_declare_buffer(NULL, FB_F32, FB_SHAPE(2), fb_init_normal(0, 1))"],
    "fb_context_close": ["fb_context_close(fb_context_open(NULL))", "fb_context_close(NULL)"],
    "fb_context_open_v": ["fb_context_close(fb_context_open_v(NULL, FB_VERSION))",
                          "fb_context_close(fb_context_open_v(&(fb_context_options){.device = \"cpu\"}, FB_VERSION))"],
    "fb_log_set": ["fb_log_set(hear, NULL)", "fb_log_set(NULL, NULL)"],
    "fb_nn_close": ["fb_nn_close(fb_nn_relu(e.ctx))", "fb_nn_close(NULL)"],
    "fb_optim_close": ["fb_optim_close(fb_optim_sgd(e.ctx, NULL, NULL))", "fb_optim_close(NULL)"],
    "fb_meter_close": ["fb_meter_close(fb_meter_open(e.ctx, \"m\"))", "fb_meter_close(NULL)"],
    "fb_profile_close": ["fb_profile_close(fb_profile_open(e.ctx, NULL))", "fb_profile_close(NULL)"],
    "fb_ema_close": ["fb_ema_close(fb_ema_open(e.m, 0.5))", "fb_ema_close(NULL)"],
    "fb_scaler_close": ["fb_scaler_close(e.scaler)", "fb_scaler_close(NULL)"],
    "fb_schedule_close": ["fb_schedule_close(fb_schedule_step_lr(e.opt, 1, 0.5))", "fb_schedule_close(NULL)"],
    "fb_retain": ["fb_release(fb_retain(e.x))", "(void)fb_retain(NULL)"],
    "fb_scope_end": ["fb_scope s = fb_scope_begin(e.ctx); fb_scope_end(&s)", "fb_scope_end(NULL)"],
    "fb_set": ["fb_tensor *slot = NULL; fb_set(&slot, e.x); fb_set(&slot, NULL)", "fb_set(NULL, NULL)", "fb_set(NULL, e.x)"],
    "fb_hook_grad": ["fb_hook_remove(fb_hook_grad(e.leaf, keep_grad, NULL))", "(void)fb_hook_grad(NULL, NULL, NULL)",
                     "(void)fb_hook_grad(e.leaf, NULL, NULL)"],
    "fb_hook_remove": ["fb_hook_remove(fb_hook_grad(e.leaf, keep_grad, NULL))", "fb_hook_remove(NULL)"],
    "fb_fail": ['fb_fail(e.ctx, FB_E_USER, "%d", 1)', 'fb_fail(NULL, FB_E_USER, "%d", 1)', 'fb_fail(e.ctx, FB_OK, "x")'],
}
INSIDE = {"fb_call_attrs", "fb_call_context", "fb_call_save", "fb_call_saved", "fb_call_needs"}  # in my_forward, my_backward

HEAD = r"""/* Generated by tests/house/test_calls.py. */
#include <flambeau/flambeau.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* What calls are given; made anew for each. */
typedef struct objects {
    fb_context *ctx;
    fb_tensor *x, *leaf, *out[64];
    fb_module *m, *child, *fresh;
    fb_optimizer *opt;
    fb_meter *meter;
    fb_ema *ema;
    fb_schedule *schedule;
    fb_scaler *scaler;
    fb_profile *profile;
    fb_profile_totals totals;
    fb_scope scope;
    fb_batch_info batch;
    fb_memory_stats stats;
    fb_rng rng;
    fb_op_description description;
    int64_t sizes[8];
    float sizes_of_six[6];
    char bytes[24], text[512];
    bool flag;
} objects;
static objects e;

static void hear(const char *line, void *user) { (void)line; (void)user; }
static fb_status identity(void *user, fb_tensors in, fb_tensor **out)
{
    (void)user;
    out[0] = fb_mul_scalar(in.t[0], 1);
    return FB_OK;
}
static fb_status visit(const char *name, fb_tensor *t, void *user) { (void)name; (void)t; (void)user; return FB_OK; }
static fb_tensor *keep_grad(fb_tensor *g, void *user) { (void)g; (void)user; return NULL; }
static fb_tensor *call(fb_module *m, void *args) { (void)args; return fb_nn_forward(m, e.x); }
static double halve(int64_t step, void *user) { (void)user; return 1.0 / (double)(step + 1); }
static fb_status my_forward(fb_call *k, fb_tensors in, fb_tensor **out)
{
    (void)fb_call_attrs(k);
    (void)fb_call_context(k);
    fb_call_save(k, 0, in.n ? in.t[0] : NULL);
    fb_call_save(k, -1, NULL);
    fb_error_take(e.ctx, NULL, 0);
    out[0] = in.n ? fb_sin(in.t[0]) : fb_zeros(e.ctx, FB_F32, FB_SHAPE(2, 3));
    return FB_OK;
}
static fb_status my_backward(fb_call *k, fb_tensors g, fb_tensor **grad_in)
{
    if (fb_call_needs(k, 0))
        grad_in[0] = fb_mul(g.t[0], fb_cos(fb_call_saved(k, 0)));
    (void)fb_call_needs(k, 100);
    return FB_OK;
}
static void call_null(void)
{
    (void)fb_call_attrs(NULL);
    (void)fb_call_context(NULL);
    (void)fb_call_save(NULL, 0, NULL);
    (void)!fb_call_saved(NULL, 0);
    (void)fb_call_needs(NULL, 0);
}
static const fb_function function = {"my_sin", 1, my_forward, my_backward, false};
typedef struct parent { fb_module *child; } parent;
static const fb_field fields[] = {FB_CHILD(parent, child), {0}};
static fb_tensor *forward(fb_module *m, fb_tensor *x) { (void)m; return fb_relu(x); }
static const fb_module_type module_type = {.name = "Parent", .size = sizeof(parent), .fields = fields, .forward = forward};

static void begin(void)
{
    static const float values[6] = {0.1F, 0.2F, 0.3F, 0.4F, 0.5F, 0.6F};
    memset(&e, 0, sizeof e);
    memcpy(e.sizes_of_six, values, sizeof values);
    for (int i = 0; i < 8; i++)
        e.sizes[i] = 1;
    e.batch = (fb_batch_info){.first = true, .last = true, .share = 1};
    e.ctx = fb_context_open(&(fb_context_options){.device = "cpu", .threads = 1});
    e.scope = fb_scope_begin(e.ctx);
    e.x = fb_from(e.ctx, FB_F32, FB_SHAPE(2, 3), values);
    e.leaf = fb_requires_grad(fb_from(e.ctx, FB_F32, FB_SHAPE(2, 3), values), true);
    for (int i = 0; i < 64; i++)
        e.out[i] = NULL;
    e.m = fb_nn_linear(e.ctx, 3, 3, NULL);
    e.child = fb_nn_relu(e.ctx);
    e.fresh = fb_nn_linear(e.ctx, 3, 3, NULL);
    e.opt = fb_optim_sgd(e.ctx, e.m, NULL);
    e.meter = fb_meter_open(e.ctx, "mean");
    e.ema = fb_ema_open(e.m, 0.5);
    e.schedule = fb_schedule_step_lr(e.opt, 1, 0.5);
    e.scaler = fb_optim_scaler(e.opt, NULL);
    e.profile = fb_profile_open(e.ctx, NULL);
    if (!fb_ok(e.ctx)) {
        fprintf(stderr, "begin: %s\n", fb_error_message(e.ctx));
        exit(3);
    }
}

static void end(void)
{
    fb_error_take(e.ctx, e.text, sizeof e.text);
    fb_context_close(e.ctx);
    fb_log_set(hear, NULL);
}
"""

TAIL = r"""
int main(void)
{
    int bad = 0, status = 0, from = 0;
    volatile int *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    while (from < N_CALLS) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            fb_log_set(hear, NULL);
            for (*at = from; *at < N_CALLS; ++*at) {
                begin();
                calls[*at].fn();
                end();
            }
            return 0; /* and whatever leaks is told */
        }
        waitpid(child, &status, 0);
        from = *at + 1;
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            printf("CRASH %s (status %d)\n", *at < N_CALLS ? calls[*at].text : "at the end: a leak?", status);
        bad += !WIFEXITED(status) || WEXITSTATUS(status);
    }
    printf("%d calls, %d crashes\n", (int)N_CALLS, bad);
    return bad > 0;
}
"""


def run(*command, **more):
    out = subprocess.run(command, capture_output=True, text=True, **more)
    if out.returncode:
        sys.exit(f"{' '.join(command)}: {out.returncode}\n{out.stdout[-3000:]}{out.stderr[-6000:]}")
    return out.stdout


def split(parameters):
    depth, parts = 0, [""]
    for c in parameters:
        depth += (c == "(") - (c == ")")
        if c == "," and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return [] if parts[0].strip() in ("", "void") else [" ".join(p.split()) for p in parts]


def parameter(text):
    """(type, name): the type of a function pointer is "fn"."""
    if text == "...":
        return "...", ""
    pointer = re.search(r"\(\*(\w+)\)", text)
    if pointer:
        return "fn *", pointer.group(1)
    match = re.match(r"(.*?)(\w+)(\[\w*\])?$", text)
    kind = match.group(1).strip() + (" *" if match.group(3) else "")
    return (kind, match.group(2)) if match.group(1).strip() else (text, "")


def declarations(text):
    """Public functions of core in preprocessed text: name -> (what it returns, parameters)."""
    room, kept = "", []
    for line in text.split("\n"):
        marker = re.match(r'# \d+ "(.*?)"', line)
        if marker:
            found = re.search(r"/flambeau/(\w+)/", marker.group(1))
            room = found.group(1) if found else ""
        elif room == "core":
            kept.append(line)
    functions = {}
    for piece in " ".join(kept).split(MARK)[1:]:
        text = " ".join(re.sub(r"__attribute__\s*\(\((warn_unused_result|format\(.*?\))\)\)", "", piece.split(";")[0]).split())
        match = re.match(r"(.*?)\b(fb_\w+)\s*\((.*)\)\s*$", text)
        if not match:
            sys.exit(f"a declaration that this test does not understand: {text}")
        functions[match.group(2)] = (match.group(1).strip(), [parameter(p) for p in split(match.group(3))])
    return functions


def is_pointer(kind):
    return kind.endswith("*") or kind in ("fb_checkpoint_fn", "fb_nn_visit", "fb_grad_fn", "fb_log_fn")


def zero(kind):
    return "NULL" if is_pointer(kind) else "0" if kind == "..." else f"({kind}){{0}}"


def good(function, kind, name):
    made = SPECIAL.get((function, name))
    if made is None:
        made = MAKERS.get(kind, MAKERS.get(kind.replace("const ", "")))
    return zero(kind) if made is None else made


def calls_of(function, parameters):
    if function in INSTEAD:
        return INSTEAD[function]
    if function in INSIDE:
        return ["fb_function_apply(e.ctx, &function, NULL, 0, FB_TENSORS(e.leaf), e.out); "
                "fb_backward(fb_sum(e.out[0], FB_ALL, false)); call_null()"]
    best = [good(function, *p) for p in parameters]
    lists = [best, [zero(kind) for kind, _ in parameters]]
    for i, (kind, _) in enumerate(parameters):
        if is_pointer(kind) and best[i] != "NULL":
            lists.append(best[:i] + ["NULL"] + best[i + 1:])
        elif kind in ("fb_tensors", "fb_outs", "fb_modules", "fb_shape"):
            lists.append(best[:i] + [zero(kind)] + best[i + 1:])
    texts = []
    for arguments in lists:
        text = f"{function}({', '.join(arguments)})"
        if text not in texts:
            texts.append(text)
    return texts


def generate(functions):
    bodies, rows = [], []
    for function, (returned, parameters) in sorted(functions.items()):
        for text in calls_of(function, parameters):
            n = len(rows)
            plain = text.startswith(function + "(") and returned != "void"
            bodies.append(f"static void call_{n}(void)\n{{\n    {'(void)!' if is_pointer(returned) and plain else ''}{text};\n}}\n"
                          if not plain or is_pointer(returned) else
                          f"static void call_{n}(void)\n{{\n    {returned} y = {text};\n    (void)y;\n}}\n")
            rows.append('{call_%d, "%s"},' % (n, text.replace("\\", "\\\\").replace('"', '\\"')))
    table = "static const struct { void (*fn)(void); const char *text; } calls[] = {\n" + "\n".join(rows) + "\n};\n"
    return HEAD + "\n".join(bodies) + table + "enum { N_CALLS = sizeof calls / sizeof *calls };\n" + TAIL


def main():
    if SANITIZE == "thread":
        print("one thread calls: nothing for the thread sanitizer")
        sys.exit(77)
    work = os.environ.get("FLAMBEAU_CALLS") or tempfile.mkdtemp(prefix="calls-", dir=BUILD)
    prefix = os.path.join(work, "installed")
    run("cmake", "--install", BUILD, "--prefix", prefix)
    pc = [os.path.join(d, f) for d, _, names in os.walk(prefix) for f in names if f == "flambeau.pc"][0]
    libraries = os.path.dirname(os.path.dirname(pc))
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc))
    flags = run("pkg-config", "--cflags", "--libs", "flambeau", env=env).split()
    sanitize = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
    includes = [f for f in flags if f.startswith("-I")]
    functions = declarations(run(CC, "-E", "-x", "c", *includes, "-", input="#include <flambeau/flambeau.h>\n"))
    source = os.path.join(work, "calls.c")
    with open(source, "w", encoding="utf-8") as f:
        f.write(generate(functions))
    object_file = os.path.join(work, "calls.o")
    run(CC, "-std=gnu11", "-g1", "-Wall", "-Wno-unused-value", "-Werror", *sanitize, *includes, "-c", source, "-o", object_file)

    # What a reader of the headers finds, and what the library shows, is called.
    broken = []
    called = set(re.findall(r" U (fb_\w+)", run("nm", object_file)))
    written = set()
    for folder, _, names in os.walk(os.path.join(prefix, "include/flambeau")):
        for name in names:
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
            found = set(re.findall(r"^(?:FB_API|inline)[^;{]*?\b(fb_\w+)\(", text, re.M))
            written |= found
            if "/flambeau/core" in folder:
                broken += [f"{name}: {f} is not called" for f in sorted(found - called)
                           if re.search(rf"^FB_API[^;{{]*?\b{f}\(", text, re.M)]
    shown = set(re.findall(r" T (fb_\w+)", run("nm", "-D", "--defined-only", os.path.join(libraries, "libflambeau.so"))))
    broken += [f"{f} is shown by the library, and no header has it" for f in sorted(shown - written - set(functions))
               if f != "fb_world_open_comm"]
    broken += [f"{f} is declared, and the library has it not" for f in sorted(set(functions) - shown)]

    program = os.path.join(work, "calls")
    run(CC, *sanitize, object_file, "-o", program, *flags, "-lm", f"-Wl,-rpath,{libraries}")
    out = subprocess.run([program], capture_output=True, text=True, env=dict(os.environ, FLAMBEAU_DEVICE="cpu"))
    if out.returncode:
        crashes = [line for line in out.stdout.split("\n") if line.startswith("CRASH")]
        broken += crashes or [f"exit code {out.returncode}: {out.stdout[-500:]}"]
        broken.append(out.stderr[-6000:])
    for text in broken:
        print(text)
    print(f"{len(functions)} functions, {out.stdout.strip().splitlines()[-1] if out.stdout.strip() else 'nothing said'}: {len(broken)} broken")
    if not broken and "FLAMBEAU_CALLS" not in os.environ:
        shutil.rmtree(work)
    sys.exit(1 if broken else 0)


main()
