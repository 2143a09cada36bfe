"""Plain loops that define every operation of this package.

Start here to see how a network computes, from the dot product of one perceptron to the update of
its weights. The fast kernels compute the same with other loops, and are tested against these.

Conventions
-----------
Shapes. ``B`` rows in the batch, ``I`` inputs of a layer, ``O`` outputs: ``x (B, I)``,
``w (I, O)``, ``b (O,)``, ``out (B, O)``. A layer computes ``z = x @ w + b``, then an activation
``out = f(z)``.

Gradients. ``dz`` is short for dL/dz, the gradient of the loss L with respect to z, and has the
shape of ``z``. Every operation is a pair of functions: ``forward`` computes the result, and
``backward`` computes the gradient with respect to the argument from the gradient with respect to
the result, by the chain rule.

Arguments. Results come first and are overwritten, not accumulated, unless the docstring says
otherwise. No array is returned or allocated, and nothing is checked: the callers check shapes.

Types. All arrays of a call have one type, float32 or float64, and sums have that type too. Numbers
such as a learning rate are rounded to it once, before the loop, because a single float64 would make
the whole loop compute in float64. Arrays may have any strides. A forward pass of NaN gives NaN.
"""

from fastnn.kernels.reference import (
    activations,
    dropout,
    elementwise,
    losses,
    normalisation,
    products,
    updates,
)

_MODULES = activations, dropout, elementwise, losses, normalisation, products, updates

__all__ = []
for _module in _MODULES:  # every compiled loop, so that a new one needs no line here
    for _name, _loop in vars(_module).items():
        if not _name.startswith("_") and getattr(_loop, "__module__", "") == _module.__name__:
            globals()[_name] = _loop
            __all__ += [_name]
