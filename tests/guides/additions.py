"""The toy additions of `tests/test_guides.py`, as edits of the files that the guide names."""

import ast
from pathlib import Path

HERE = Path(__file__).parent


class Copy:
    """A copy of the checkout that edits are applied to. Each edit fails if its place is gone."""

    def __init__(self, root):
        self.root = root

    def read(self, path):
        return (self.root / path).read_text(encoding="utf-8")

    def create(self, path, text):
        assert not (self.root / path).exists(), f"{path} exists: give the toy another name"
        (self.root / path).write_text(text, encoding="utf-8")

    def write_lines(self, path, lines):
        (self.root / path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def append(self, path, text):
        """Append text to a file that exists."""
        old = self.read(path)
        (self.root / path).write_text(f"{old}\n\n{text}", encoding="utf-8")

    def assignment(self, path, name):
        """Return where the one assignment to a name at the top of a file begins and ends."""
        found = [
            node
            for node in ast.parse(self.read(path)).body
            if (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name)
            or (isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name)
        ]
        assert len(found) == 1, f"{path} has {len(found)} assignments to {name} at its top"
        return found[0].lineno - 1, found[0].end_lineno

    def insert_before_assignment(self, path, name, text):
        """Insert functions or a class before the statement that assigns a name."""
        begin, _ = self.assignment(path, name)
        lines = self.read(path).splitlines()
        blank = [""] if lines[begin - 1] == "" != lines[begin - 2] else []
        lines[begin:begin] = [*blank, *text.splitlines(), "", ""]
        self.write_lines(path, lines)

    def add_entry(self, path, name, entry):
        """Add a last entry to the dict or list of several lines that is assigned to a name."""
        _, end = self.assignment(path, name)
        lines = self.read(path).splitlines()
        assert lines[end - 1].strip() in ("}", "]", ")"), f"{path}: {name} does not end in a line"
        lines[end - 1 : end - 1] = [entry]
        self.write_lines(path, lines)

    def replace(self, path, old, new):
        """Replace a text that the file has once."""
        text = self.read(path)
        assert text.count(old) == 1, f"{path} has {text.count(old)} times {old!r}"
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")

    def insert_before(self, path, old, new):
        """Insert a text before one that the file has once."""
        self.replace(path, old, new + old)

    def insert_after(self, path, old, new):
        """Insert a text after one that the file has once."""
        self.replace(path, old, old + new)

    def make_public(self, name, home, after):
        """Give fastnn a public name, for programs and, after another one, for type checkers."""
        assert f'"{name}"' not in self.read("fastnn/__init__.py"), f"{name} is no toy any more"
        self.add_entry("fastnn/__init__.py", "_HOMES", f'    "{name}": "{home}",')
        line = "    from fastnn.{0} import {1} as {1}\n"
        self.insert_after("fastnn/__init__.py", line.format(home, after), line.format(home, name))


def add_activation(copy):
    """Add a piecewise linear sigmoid, which has an argument and is not 0 at 0."""
    copy.insert_before_assignment("fastnn/kernels/activations.py", "_HE", HARD_SIGMOID)
    copy.add_entry("fastnn/kernels/activations.py", "ACTIVATIONS", HARD_SIGMOID_ENTRY)
    copy.append("fastnn/kernels/reference/activations.py", HARD_SIGMOID_LOOPS)
    copy.insert_before("fastnn/layers/activations.py", '    "HardTanh",\n', '    "HardSigmoid",\n')
    copy.insert_before("fastnn/layers/activations.py", "class Activation(", HARD_SIGMOID_LAYER)
    copy.make_public("HardSigmoid", "layers", after="Dropout")


def add_optimizer(copy):
    """Add signum, which updates by the sign of a running mean (Bernstein et al., 2018)."""
    copy.insert_before_assignment("fastnn/kernels/updates.py", "_BETAS", SIGNUM)
    row = '    "signum": Rule(1, {"beta_1": "[0, 1)"}, _signum, _rate_alone),'
    copy.add_entry("fastnn/kernels/updates.py", "RULES", row)
    copy.append("fastnn/kernels/reference/updates.py", SIGNUM_LOOP)
    copy.insert_before_assignment("fastnn/optimizers.py", "BY_NAME", SIGNUM_CLASS)
    copy.replace("fastnn/optimizers.py", " | AdaGrad]] = {", " | AdaGrad | Signum]] = {")
    copy.add_entry("fastnn/optimizers.py", "BY_NAME", '    "signum": Signum,')
    copy.make_public("Signum", "optimizers", after="RMSProp")


def add_layer(copy):
    """Add a layer that scales each column: it has weights and kernels of its own."""
    kernels, layer = (HERE / name for name in ("scale_kernels.py", "scale_layer.py"))
    copy.create("fastnn/kernels/scale.py", kernels.read_text(encoding="utf-8"))
    copy.append("fastnn/kernels/reference/normalisation.py", SCALE_LOOPS)
    copy.create("fastnn/layers/scale.py", layer.read_text(encoding="utf-8"))
    last, new = "from fastnn.layers.residual import Residual as Residual\n", "scale import Scale"
    copy.insert_after("fastnn/layers/__init__.py", last, f"from fastnn.layers.{new} as Scale\n")
    copy.insert_after("fastnn/layers/__init__.py", '        "Residual",\n', '        "Scale",\n')
    copy.make_public("Scale", "layers", after="Residual")
    copy.insert_before("docs/theory.md", "| Residual blocks, also nested |", SCALE_ROW)


HARD_SIGMOID = '''\
@inner
def _hard_sigmoid(z, a):
    """Return a z + 1 / 2, between 0 and 1 (Courbariaux, Bengio and David, 2015)."""
    zero, one = type(z)(0), type(z)(1)
    line = fma(a, z, type(z)(0.5))
    high = one if line > one else line
    return zero if high < zero else high


@inner
def _hard_sigmoid_backward(dout, y, a):
    """dout times a if 0 < y < 1 else 0."""
    zero, one = type(y)(0), type(y)(1)
    return dout * (zero if y <= zero or y >= one else a)'''

HARD_SIGMOID_ENTRY = """\
    "hard_sigmoid": Activation(
        _hard_sigmoid, _hard_sigmoid_backward, zero_at_zero=False, parameter=0.5
    ),"""

HARD_SIGMOID_LOOPS = '''\
@reference
def hard_sigmoid_forward(out, z, slope):
    """Compute a piecewise linear sigmoid: ``out = max(0, min(slope * z + 1 / 2, 1))``.

    Courbariaux, Bengio and David (2015), "BinaryConnect: training deep neural networks with binary
    weights during propagations". NaN stays NaN.

    Parameters
    ----------
    out : ndarray of shape (B, O)
        Overwritten. May be `z`.
    z : ndarray of shape (B, O)
        Pre-activations.
    slope : float
        Derivative at 0.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> hard_sigmoid_forward(out, np.array([[-3.0, 0.5, 3.0]]), 0.5)
    >>> out
    array([[0.  , 0.75, 1.  ]])
    """
    number = out.dtype.type
    a, half, zero, one = number(slope), number(0.5), number(0), number(1)
    for row in range(z.shape[0]):
        for o in range(z.shape[1]):
            line = a * z[row, o] + half
            high = one if line > one else line
            out[row, o] = zero if high < zero else high


@reference
def hard_sigmoid_backward(dz, dout, out, slope):
    """Multiply by the derivative: ``dz = dout * slope`` where ``0 < out < 1``, else 0.

    Parameters
    ----------
    dz : ndarray of shape (B, O)
        Overwritten. May be `dout`.
    dout : ndarray of shape (B, O)
        Gradient with respect to the output.
    out : ndarray of shape (B, O)
        Output of `hard_sigmoid_forward`.
    slope : float
        The slope given to `hard_sigmoid_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> dz = np.empty((1, 2))
    >>> hard_sigmoid_backward(dz, np.array([[3.0, 3.0]]), np.array([[0.75, 1.0]]), 0.5)
    >>> dz
    array([[1.5, 0. ]])
    """
    number = dz.dtype.type
    a, zero, one = number(slope), number(0), number(1)
    for row in range(out.shape[0]):
        for o in range(out.shape[1]):
            flat = out[row, o] <= zero or out[row, o] >= one
            dz[row, o] = dout[row, o] * (zero if flat else a)
'''

HARD_SIGMOID_LAYER = '''\
class HardSigmoid(_Activation):
    """Piecewise linear sigmoid: ``f(z) = max(0, min(slope * z + 1 / 2, 1))``.

    Courbariaux, Bengio and David (2015). At 0 and 1 the derivative is 0.

    Parameters
    ----------
    slope : float, default=0.5
        Derivative at 0, at least 0.

    Raises
    ------
    ValueError
        If `slope` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import HardSigmoid
    >>> HardSigmoid().forward(np.array([[-3.0, 0.5]]))
    array([[0.  , 0.75]])
    """

    activation = "hard_sigmoid"

    def __init__(self, slope: float = 0.5) -> None:
        super().__init__()
        self.parameter = check_number("slope", slope)

    def config(self) -> dict[str, Any]:
        return {"slope": self.parameter}


'''

SIGNUM = '''\
@inner
def _signum(h, f, p, s1, s2, g):
    """m = beta_1 m + (1 - beta_1) g,  p -= rate sign(m) (Bernstein et al., 2018)."""
    number = p.dtype.type
    rate, beta_1, rest, zero = number(f[0]), number(h[0]), number(1.0 - h[0]), number(0)
    for i in range(p.size):
        s1[i] = fma(beta_1, s1[i], rest * g[i])
        p[i] -= rate * (zero if s1[i] == zero else s1[i] / abs(s1[i]))'''

SIGNUM_LOOP = '''\
@reference
def signum(p, mean, g, learning_rate, beta_1):
    """Update by the sign of a running mean of the gradient (Bernstein et al., 2018).

    ``mean = beta_1 * mean + (1 - beta_1) * g``, then ``p -= learning_rate * sign(mean)``, where the
    sign of NaN and of infinity is NaN.

    Parameters
    ----------
    p, mean : ndarray of shape (P,)
        Parameters and the running mean of their gradient, overwritten.
    g : ndarray of shape (P,)
        Gradient of the loss with respect to `p`.
    learning_rate : float
        Length of the step.
    beta_1 : float
        Share of the running mean that is kept, from 0 to below 1.

    Examples
    --------
    >>> import numpy as np
    >>> p, mean = np.array([1.0]), np.array([0.0])
    >>> signum(p, mean, np.array([4.0]), 0.25, 0.5)
    >>> p, mean
    (array([0.75]), array([2.]))
    """
    rate, zero = p.dtype.type(learning_rate), p.dtype.type(0)
    keep, add = p.dtype.type(beta_1), p.dtype.type(1 - beta_1)
    for i in range(p.shape[0]):
        mean[i] = keep * mean[i] + add * g[i]
        p[i] -= rate * (zero if mean[i] == zero else mean[i] / abs(mean[i]))
'''

SIGNUM_CLASS = '''\
@dataclass(frozen=True, repr=False)
class Signum(Optimizer):
    """Signum: updates by the sign of a running mean of the gradient.

    ``m = beta_1 * m + (1 - beta_1) * g``, then ``p -= learning_rate * sign(m)`` (Bernstein et al.,
    2018).

    Parameters
    ----------
    learning_rate : float, default=0.001
        Step size, greater than 0.
    beta_1 : float, default=0.9
        Decay of the running mean m, in [0, 1).
    clip_value, clip_norm : float, default=None
        Limits of the gradient, as for `Optimizer`.

    Examples
    --------
    >>> from fastnn import Signum
    >>> Signum(0.01)
    Signum(learning_rate=0.01, beta_1=0.9)
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9

    @property
    def rule(self) -> Rule:
        return RULES["signum"]'''

SCALE_LOOPS = '''\
@reference
def scale_forward(out, x, s):
    """Scale each column: ``out = x * s``.

    Parameters
    ----------
    out : ndarray of shape (B, I)
        Overwritten.
    x : ndarray of shape (B, I)
        Input.
    s : ndarray of shape (I,)
        Scale of each column.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((1, 2))
    >>> scale_forward(out, np.array([[3.0, 5.0]]), np.array([2.0, 0.5]))
    >>> out
    array([[6. , 2.5]])
    """
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[row, i] = x[row, i] * s[i]


@reference
def scale_backward(dx, ds, dout, x, s):
    """Compute the gradients of `scale_forward`: ``dx = dout * s`` and ``ds = sum_b dout x``.

    Parameters
    ----------
    dx : ndarray of shape (B, I)
        Overwritten.
    ds : ndarray of shape (I,)
        Overwritten.
    dout, x : ndarray of shape (B, I)
        Gradient with respect to the output, and the input.
    s : ndarray of shape (I,)
        Argument of the forward pass.

    Examples
    --------
    >>> import numpy as np
    >>> dx, ds = np.empty((2, 1)), np.empty(1)
    >>> scale_backward(dx, ds, np.ones((2, 1)), np.array([[3.0], [5.0]]), np.array([2.0]))
    >>> dx.tolist(), ds
    ([[2.0], [2.0]], array([8.]))
    """
    for i in range(x.shape[1]):
        ds[i] = x.dtype.type(0)
        for row in range(x.shape[0]):
            ds[i] += dout[row, i] * x[row, i]
            dx[row, i] = dout[row, i] * s[i]
'''

SCALE_ROW = """\
| A scale of each column | `Scale` | `tests/test_deep_nets.py::test_a_compiled_step_does_what_the_layers_do` |
"""  # noqa: E501
