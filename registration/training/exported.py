"""Networks in forms that other programs run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..io.files import PathLike, atomic_path
from ..preprocessing import CropOrPad
from ..registrar import Registrar
from .stage import Trained

_ENDINGS = (".pt2", ".ts", ".onnx")
_OTHERS = "write .pt2 or .ts"
_SMALL = 1024  # numbers of a constant


def write_exported(checkpoint: PathLike, output: PathLike, shape: Sequence[int] | None = None) -> str:
    """Write the localiser of a checkpoint, and check that what was written answers the same.

    Parameters
    ----------
    output
        Its ending says the form: ``.pt2`` torch.export, ``.ts`` TorchScript, ``.onnx`` ONNX (needs the
        extra ``onnx``).
    shape
        Spatial shape of the inputs; that of training by default.

    Returns
    -------
    One line: inputs, output, and the largest difference found.

    Raises
    ------
    InputError
        If the checkpoint has no single network, the ending is unknown, a package is missing, the form
        does not know an operator of the network, or the answers differ.
    """
    file = Path(output)
    if file.suffix not in _ENDINGS:
        raise InputError(file, f"has the ending {file.suffix!r}", f"one of {', '.join(_ENDINGS)} says the form")
    trained = Trained(checkpoint)
    if not isinstance(trained.aligner, Registrar):
        raise InputError(checkpoint, "is a cascade or finds keypoints", "only single networks are exported")
    network = trained.aligner.localiser
    sizes = tuple(shape) if shape is not None else _trained_shape(trained)
    if len(sizes) != trained.plan["ndim"]:
        raise InputError("--shape", f"{sizes} has {len(sizes)} axes, the network was trained on {trained.plan['ndim']}")
    generator = torch.Generator().manual_seed(0)
    shape = 1, int(trained.plan["channels"]), *sizes
    inputs = tuple(torch.rand(shape, generator=generator, dtype=torch.float32) for _ in range(2))
    with torch.no_grad():
        expected = network(*inputs)
        with atomic_path(file) as temporary:
            answer = _WRITERS[file.suffix](network, inputs, temporary)
    error = float((answer - expected).abs().max())
    if error > 1e-4 * max(1.0, float(expected.abs().max())):
        raise InputError(file, f"answers differently from the network, by {error:.2g}", "choose another form")
    return f"inputs 2 x {tuple(inputs[0].shape)}, output {tuple(expected.shape)}, largest difference {error:.1e}"


def _trained_shape(trained: Trained) -> tuple[int, ...]:
    for step in reversed(list(trained.pipeline.steps.values())):
        if isinstance(step, CropOrPad):
            d = int(trained.plan["ndim"])
            return (step.shape,) * d if isinstance(step.shape, int) else tuple(step.shape)
    raise InputError("--shape", "is not given and training had no fixed shape", "for example --shape 64,64,64")


def _export(network: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> Tensor:
    with _quiet():
        try:
            program = torch.export.export(network, inputs)
        except RuntimeError as error:  # what the exporter cannot follow, such as sizes that depend on values
            raise InputError(
                path.suffix, f"cannot say what this network does ({_reason(error)})", "write .ts"
            ) from error
        torch.export.save(program, path)
        answer: Tensor = torch.export.load(path).module()(*inputs)
    return answer


def _script(network: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer speaks of sizes, which are meant to be fixed
        traced: Any = torch.jit.trace(network, inputs)
        traced.save(str(path))
        answer: Tensor = torch.jit.load(str(path))(*inputs)
    return answer


def _onnx(network: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> Tensor:
    try:
        import onnxruntime  # type: ignore[import-not-found,import-untyped,unused-ignore]
        from onnxscript.optimizer import optimize_ir  # type: ignore[import-not-found,import-untyped,unused-ignore]

        with _quiet():
            program = torch.onnx.export(network, inputs, dynamo=True, verbose=False, optimize=False)
            assert program is not None
            # Small constants alone: folding grids takes minutes, and onnxruntime does it at once.
            optimize_ir(program.model, input_size_limit=_SMALL, output_size_limit=_SMALL)
            program.save(str(path), external_data=False)
    except ImportError as error:
        raise InputError(path.suffix, f"needs a package ({error})", "pip install '.[onnx]' in the checkout") from None
    except torch.onnx.OnnxExporterError as error:
        raise InputError(path.suffix, f"cannot say what this network does ({_reason(error)})", _OTHERS) from error
    try:
        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(str(path), quiet)
        names = [entry.name for entry in session.get_inputs()]
        answer = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))[0]
    except Exception as error:  # its errors have no common class
        raise InputError(path.suffix, f"is refused by onnxruntime ({_reason(error)})", _OTHERS) from error
    return torch.from_numpy(answer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's words on packages that nobody asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _reason(error: BaseException) -> str:
    """The innermost cause in one line, which names the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__


_WRITERS = {".pt2": _export, ".ts": _script, ".onnx": _onnx}
