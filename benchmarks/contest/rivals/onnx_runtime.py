"""ONNX Runtime: inference of a model that is built node by node."""

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from contest.rivals.base import Rival

_NODES = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}
_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}

# Old enough for every version of the runtime that is around.
_IR_VERSION, _OPSET = 8, 17


def build(cell, weights):
    """Return a net as an ONNX model."""
    nodes, initializers, name = [], [], "x"
    for k, (w, b) in enumerate(weights):
        initializers += [numpy_helper.from_array(w, f"w{k}"), numpy_helper.from_array(b, f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"z{k}"]))
        name = f"z{k}"
        if k < len(weights) - 1:
            nodes.append(helper.make_node(_NODES[cell.activation], [name], [f"h{k}"]))
            name = f"h{k}"
    number = _TYPES[cell.dtype]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", number, ["rows", cell.sizes[0]])],
        [helper.make_tensor_value_info(name, number, ["rows", cell.sizes[-1]])],
        initializers,
    )
    model = helper.make_model(
        graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)]
    )
    onnx.checker.check_model(model)
    return model


class OnnxRuntime(Rival):
    """A session on the CPU with all optimisations of the graph, which are its default."""

    def prepare_inference(self, cell, weights):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.n_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            build(cell, weights).SerializeToString(), options, ["CPUExecutionProvider"]
        )
        return lambda x: session.run(None, {"x": x})[0]
