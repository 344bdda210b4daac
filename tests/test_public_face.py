"""What a user's program sees: imports, the shortest session, and a clean end whatever was left open."""

import subprocess
import sys
import textwrap

import pytest

TINY = """
    import semantic
    from semantic.adapters.mlx import blas
    blas.activate()
    from mlx_lm.models import llama
    args = llama.ModelArgs(
        model_type="llama", hidden_size=32, num_hidden_layers=1, intermediate_size=32, num_attention_heads=2,
        rms_norm_eps=1e-5, vocab_size=50, max_position_embeddings=4096,
    )
    engine = semantic.open((llama.Model(args), None), memory="64MB")
"""


def run(*programs: str) -> subprocess.CompletedProcess[str]:
    source = "\n".join(textwrap.dedent(program) for program in programs)
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)


def test_importing_it_loads_no_tensor_library_and_nothing_else_that_is_slow() -> None:
    ended = run(
        """
        import sys
        import semantic
        slow = {"mlx", "mlx_lm", "numpy", "transformers", "pydantic", "dependency_injector", "structlog", "typer"}
        print(sorted(slow & set(sys.modules)))
        """
    )
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_the_domain_is_importable_without_the_rest() -> None:
    ended = run(
        """
        import sys
        from semantic.domain.services import BlockPool
        from semantic.domain.value_objects import ModelCacheSpec
        pool = BlockPool(4)
        pool.release(pool.allocate(3).block_ids)
        print(pool.num_free, "numpy" in sys.modules)
        """
    )
    assert ended.stdout == "4 False\n"


def test_every_public_name_is_there() -> None:
    import semantic

    assert all(getattr(semantic, name) is not None for name in semantic.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Agnet'"):
        semantic.Agnet  # noqa: B018


def test_fakes_run_the_whole_engine_without_mlx() -> None:
    ended = run(
        """
        import sys
        from semantic.adapters.fakes import fake_engine
        with fake_engine() as engine:
            print(engine.generate("abc", max_tokens=3).usage.completion_tokens)
        print({"mlx", "numpy"} & set(sys.modules))
        """
    )
    assert (ended.stdout, ended.returncode) == ("3\nset()\n", 0)


@pytest.mark.mlx
@pytest.mark.parametrize(
    "left_open",
    [
        "engine.close()",
        "",
        "request = engine.submit([1, 2, 3], max_tokens=4000)",
        "stream = engine.stream([1, 2, 3], max_tokens=4000); next(stream)",
        "import sys; sys.engine = engine; stream = engine.stream([1], max_tokens=4000); next(stream)",
        "import asyncio; face = semantic.AsyncEngine(engine); asyncio.run(face.generate([1, 2], max_tokens=3))",
    ],
    ids=["nothing", "engine", "request", "stream", "engine and stream", "event loop"],
)
def test_the_process_ends_cleanly_whatever_was_left_open(left_open: str) -> None:
    ended = run(TINY, "print(len(engine.generate([1, 2, 3], max_tokens=3).token_ids))", left_open)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("3\n", "", 0)


@pytest.mark.mlx
def test_an_exit_code_survives_an_engine_left_open() -> None:
    assert run(TINY, "engine.submit([1], max_tokens=4000)", "raise SystemExit(3)").returncode == 3
