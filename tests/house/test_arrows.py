"""#include lines follow the arrows of the house, and foreign headers stay in their rooms."""
import re

from tree import ROOMS, files, finish, public_headers, read, room_of

CORE = ["core/base", "core/tensor", "core/autograd", "core/ops", "core/nn", "core/optim"]
# What a room may include beside itself.
MAY = {
    "core/base": [],
    "core/tensor": CORE[:1],
    "core/autograd": CORE[:2],
    "core/ops": CORE[:3],
    "core/cpu": ["core/base", "core/tensor", "core/ops"],
    "core/cuda": ["core/base", "core/tensor", "core/ops"],
    "core/nn": CORE[:4],
    "core/optim": CORE[:5],
    "comm": CORE,
    "parallel": CORE + ["comm"],
    "io": CORE + ["comm"],
    "launch": CORE + ["comm", "parallel", "io"],
}
# Backward calls a node's row: the table of operators is the engine's as much as the operators'.
# (Who includes, what): why.
EXCEPTIONS = {
    ("core/autograd", "core/ops/op_priv.h"): "backward calls a node's row through the table",
    ("core/autograd", "core/ops/backend.h"): "the same",
}
# Foreign headers, and the rooms whose .c files may see them.
FOREIGN = {
    r"mpi\.h": ["comm", "launch"],
    r"hdf5\w*\.h|H5\w+\.h": ["io", "launch"],
    r"(oneapi/dnnl/)?dnnl\w*\.h": ["core/cpu"],
    r"zlib\.h": ["launch", "io"],
    r"jansson\.h": ["io", "launch"],
    r"yaml\.h": ["launch"],
    r"(cuda|cudnn|nccl|cublas)\w*\.h|nvtx3/\w+\.h": ["core/cuda"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)

broken = []
public = set(public_headers())
for path in files():
    room = room_of(path)
    if room not in ROOMS or not path.endswith((".c", ".cu", ".h", ".def")):
        continue
    for mark, target in INCLUDE.findall(read(path)):
        if mark == "<" and target.startswith("flambeau/") and target != "flambeau/flambeau.h":
            header = target[len("flambeau/"):]
            if header not in public:
                broken.append(f"{path}: <{target}> is not a public header")
        else:
            header = target
        other = room_of(header)
        if (other in ROOMS and other != room and other not in MAY[room] and
                (room, header) not in EXCEPTIONS):
            broken.append(f"{path}: {room} may not include {header}")
        if path in public and mark == '"':
            broken.append(f"{path}: a public header includes \"{target}\"; users cannot")
        for pattern, rooms in FOREIGN.items():
            if re.fullmatch(pattern, target):
                if room not in rooms:
                    broken.append(f"{path}: {room} may not see {target}")
                elif path in public and path != "comm/mpi.h":
                    broken.append(f"{path}: {target} in a public header")
finish("arrows", broken)
