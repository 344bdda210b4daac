"""EXP-009: what fewer bits for keys and values do to what the model says, at rest and in compute."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from semantic.experiments import (
    Agreement,
    Dependency,
    Experiment,
    FailurePlan,
    FailureScenario,
    Finding,
    Hypothesis,
    KVMode,
    Lab,
    Method,
    ModelRequirement,
    NextSteps,
    Prerequisites,
    Profile,
    QualityProbe,
    Related,
    Step,
    at_most,
    exactly,
    fixtures,
    must,
    nice,
)

TEXTS = fixtures(__file__, "exp_009")

EIGHT_BITS = (KVMode.AT_REST_8, KVMode.IN_COMPUTE_8)
ANSWER_TOKENS_BEYOND = 2
FIGURE = "Divergence by context length"

EXPERIMENT = Experiment(
    id="EXP-009",
    title="Quality of quantised keys and values",
    sprint="4 - Quantised KV",
    owner="QE",
    expected_duration="about 10 minutes quick, 2 hours full, on 2 cores",
    objective=(
        "Say what keys and values in 8, 8/4 and 4 bits, at rest and in compute, cost in perplexity, in divergence from "
        "exact ones and in what is remembered from far back, and hold 4 bits at rest against mlx_lm's rounding in as "
        "many bytes."
    ),
    hypotheses=(
        Hypothesis("8 bits are as good as exact", ("C1", "N2")),
        Hypothesis("4 bits at rest cost no perplexity", ("C2",)),
        Hypothesis("Codes by channel at rest lose less than codes by token in as many bytes", ("C3", "C4", "N1")),
        Hypothesis("What was said long ago is still there with 4 bits at rest", ("N3",)),
    ),
    prerequisites=Prerequisites(
        models=(
            ModelRequirement("SmolLM2-135M-Instruct", "fast testing"),
            ModelRequirement(
                "Gemma 3 12B",
                "production validation",
                not_run_because="it needs more memory than this machine has; pass --model to run it elsewhere",
            ),
        ),
        dependencies=(Dependency("mlx_lm", "0.30.4"), Dependency("mlx")),
        components=(
            "semantic.application.ports.quality:QualityProbe",
            "semantic.domain.value_objects:RestPrecision",
        ),
    ),
    method=Method(
        environment="probe = lab.quality()   # the engine's own caches, blocks and codecs",
        data="text = ...   # experiments/fixtures/corpus: technical prose, sources and licences in its README",
        parameters={
            "temperature": 0.0,
            "seed": 42,
            "modes": tuple(str(mode) for mode in KVMode),
            "texts": TEXTS.TEXTS,
            "context_tokens": (1000, 2000, 4000, 6000),
            "predicted_tokens": 256,
            "recall_tokens": (1000, 2000, 4000, 6000),
        },
        steps=(
            Step(
                "Keep a text's first tokens in each mode and predict the next ones, each from the true ones before it",
                "probe.agreements(text[:n], text[n : n + 257], modes)",
            ),
            Step(
                "Plant a fact, or a tool call, before a text, and let the model repeat it behind the text, greedily",
                "probe.answers(planted + text[:n], question, modes, max_tokens=...)",
            ),
        ),
        measurement=(
            "# KL: of the mode's distribution from exact KV's at each predicted token; mean and 99th percentile.\n"
            "# Perplexity ratio: exp(mean loss of the mode - mean loss of exact KV). Top-1: same most likely token.\n"
            "# Bytes a token: arrays of the context's sealed blocks, scales and tails included, over its tokens.\n"
            "# Recall is held against what exact KV answers: a small model forgets by itself."
        ),
    ),
    criteria=(
        must("C1", "8 bits: mean KL, the worse of at rest and in compute", at_most(0.0005, "nats")),
        must("C2", "4 bits at rest: perplexity, over exact", at_most(1.01)),
        must("C3", "4 bits at rest: mean KL, over that of 4 bits by token", at_most(0.6)),
        must("C4", "4 bits at rest: bytes beyond or below those of 4 bits by token, as a share", at_most(0.03)),
        must("C5", "Texts and questions that were carried out", exactly(1, "of all")),
        nice("N1", "4 bits at rest: mean KL, over that of 4 bits by token", at_most(0.25)),
        nice("N2", "8 bits: answers that are those of exact KV", exactly(1, "of all")),
        nice("N3", "4 bits at rest: what was planted and exact KV recalls", exactly(1, "of all")),
    ),
    failure_plan=FailurePlan(
        scenarios=(
            FailureScenario(
                "8 bits diverge",
                "See whether at rest or in compute, and at which length; look for keys that 16-bit scales can't hold",
                "Any divergence beyond the limit: something else than rounding is wrong",
            ),
            FailureScenario(
                "4 bits at rest lose on another model",
                "Compare 8/4 at rest, which spends its bits on keys; look at how keys vary along tokens (ADR 0013)",
                "If 8/4 diverges by more than 0.005 nats: use 8 on this model",
            ),
        ),
    ),
    profiles=(
        Profile(
            "quick",
            "one text at each of 1,000, 2,000 and 6,000 tokens, recall at 1,000 and 2,000",
            {"context_tokens": (1000, 2000, 6000), "recall_tokens": (1000, 2000), "texts": TEXTS.TEXTS[:1]},
        ),
        Profile("full", "three texts at each of 1,000, 2,000, 4,000 and 6,000 tokens, recall at all of them"),
    ),
    next_steps=NextSteps(
        immediate="None, if it passes",
        sprint="Run it on larger models, which lose less at equal bits",
        future="Find modes in compute for windows",
    ),
    related=Related(adrs=("ADR-0013", "ADR-0014"), experiments=("EXP-010",)),
)


@frozen
class Passage:
    """A text and how much of it is context."""

    text: str
    context_tokens: int

    def __str__(self) -> str:
        return f"{self.text}, {self.context_tokens} tokens"


@define
class Sums:
    """Everything that was predicted in one mode."""

    divergence: list[float] = field(factory=list)
    dearer: float = 0.0
    same: int = 0
    stored_bytes: list[float] = field(factory=list)

    def add(self, kept: Mapping[str, Any]) -> None:
        """Take a passage's statistics in."""
        self.divergence += kept["divergence"]
        self.dearer += kept["dearer"]
        self.same += kept["same"]
        self.stored_bytes.append(kept["bytes_per_token"])

    @property
    def kl(self) -> float:
        """Mean, in nats."""
        return math.fsum(self.divergence) / len(self.divergence)

    @property
    def perplexity_ratio(self) -> float:
        """Over exact."""
        return math.exp(self.dearer / len(self.divergence))

    @property
    def bytes_per_token(self) -> float:
        """Mean over the passages."""
        return math.fsum(self.stored_bytes) / len(self.stored_bytes)

    def cells(self) -> dict[str, float]:
        """A row of the table."""
        return {
            "Bytes a token": self.bytes_per_token,
            "KL, mean (nats)": self.kl,
            "KL, 99th percentile": percentile(self.divergence, 0.99),
            "Perplexity, x exact": self.perplexity_ratio,
            "Top-1 agreement": self.same / len(self.divergence),
        }


@define
class Recall:
    """What came of the questions, by mode."""

    asked: int = 0
    as_exact: dict[KVMode, int] = field(factory=dict)
    exact_kept: int = 0
    kept_too: dict[KVMode, int] = field(factory=dict)

    def add(self, kept: Mapping[str, Mapping[str, bool]]) -> None:
        """Take one question's answers in."""
        self.asked += 1
        exact_kept = kept[KVMode.EXACT]["kept"]
        self.exact_kept += exact_kept
        for name, answer in kept.items():
            mode = KVMode(name)
            self.as_exact[mode] = self.as_exact.get(mode, 0) + answer["as exact"]
            self.kept_too[mode] = self.kept_too.get(mode, 0) + (exact_kept and answer["kept"])


def run(lab: Lab) -> None:
    """Every passage, then every question."""
    sums: dict[KVMode, Sums] = {}
    recall = Recall()
    done = 0
    passages = [Passage(text, n) for n in lab.parameters["context_tokens"] for text in lab.parameters["texts"]]
    questions = [(planted, n) for n in lab.parameters["recall_tokens"] for planted in TEXTS.PLANTED]
    total = len(passages) + len(questions)
    with lab.quality() as probe:
        modes = allowed(lab, probe)
        for passage in passages:
            lab.progress(str(passage), done, total)
            kept: Any = lab.step(str(passage), lambda passage=passage: predict(lab, probe, passage, modes))
            for name, one in (kept or {}).items():
                sums.setdefault(KVMode(name), Sums()).add(one)
            done += kept is not None
        for planted, n in questions:
            label = f"{planted.name}, {n} tokens"
            lab.progress(label, done, total)
            answers: Any = lab.step(label, lambda planted=planted, n=n: ask(lab, probe, planted, n, modes))
            if answers is not None:
                recall.add(answers)
                done += 1
    conclude(lab, sums, recall, done / total)


def allowed(lab: Lab, probe: QualityProbe) -> list[KVMode]:
    """The modes that the model can be kept in; the others are a caveat each."""
    modes = [KVMode(name) for name in lab.parameters["modes"]]
    refused = {mode: reason for mode in modes if (reason := probe.refusal(mode)) is not None}
    for mode, reason in refused.items():
        lab.caveat(f"{mode} was not run: {reason}")
    return [mode for mode in modes if mode not in refused]


def predict(lab: Lab, probe: QualityProbe, passage: Passage, modes: Sequence[KVMode]) -> dict[str, Any]:
    """One passage in all modes."""
    n, predicted = passage.context_tokens, lab.parameters["predicted_tokens"]
    tokens = probe.encode(TEXTS.text(passage.text))[: n + predicted + 1]
    found = probe.agreements(tokens[:n], tokens[n:], modes)
    kept = {str(mode): statistics_of(agreement) for mode, agreement in found.items()}
    for name, one in kept.items():
        sums = Sums()
        sums.add(one)
        lab.row(**{"Text": passage.text, "Context (tokens)": n, "Mode": name, **sums.cells()})
        if name != KVMode.EXACT:
            line = lab.series(FIGURE, name, x_label="context", x_unit="tokens", y_label="mean KL", y_unit="nats")
            line.add(n, sums.kl)
    exact = found.get(KVMode.EXACT)
    if exact is not None:
        loss = math.fsum(exact.loss) / len(exact.loss)
        lab.log(f"{passage}: perplexity {math.exp(loss):.3f} of {len(exact.loss)} tokens with exact KV")
    return kept


def statistics_of(agreement: Agreement) -> dict[str, Any]:
    """What of a passage is kept: divergences one by one for their percentile, of the rest the sums."""
    return {
        "divergence": [float(f"{each:.4g}") for each in agreement.divergence],
        "dearer": math.fsum(agreement.loss) - math.fsum(agreement.exact_loss),
        "same": sum(agreement.same_choice),
        "bytes_per_token": agreement.bytes_per_token,
    }


def ask(lab: Lab, probe: QualityProbe, planted: Any, n: int, modes: Sequence[KVMode]) -> dict[str, Any]:
    """One question in all modes."""
    beginning = probe.encode(planted.beginning)
    filler = probe.encode(TEXTS.text(lab.parameters["texts"][0]))
    max_tokens = len(probe.encode(planted.answer)) + ANSWER_TOKENS_BEYOND
    context = [*beginning, *filler[: n - len(beginning)]]
    answers = probe.answers(context, probe.encode(planted.question), modes, max_tokens=max_tokens)
    exact = answers[KVMode.EXACT]
    kept: dict[str, Any] = {}
    for mode, answer in answers.items():
        said = probe.decode(answer)
        kept[str(mode)] = {"as exact": answer == exact, "kept": said.strip().startswith(planted.answer.strip())}
        lab.row(
            **{
                "Planted": planted.name,
                "Context (tokens)": n,
                "Mode": str(mode),
                "Answer": said,
                "As exact KV?": answer == exact,
                "What was planted?": kept[str(mode)]["kept"],
            }
        )
    return kept


def conclude(lab: Lab, sums: Mapping[KVMode, Sums], recall: Recall, share_done: float) -> None:
    """One row for each mode over all texts, and the criteria."""
    with lab.run("all texts together"):
        for mode, one in sums.items():
            lab.row(**{"Text": "all", "Context (tokens)": "all", "Mode": str(mode), **one.cells()})
    eights = [mode for mode in EIGHT_BITS if mode in sums]
    if eights:
        evidence = ", ".join(f"{mode}: {sums[mode].kl:.6f}" for mode in eights)
        lab.measure("C1", max(sums[mode].kl for mode in eights), evidence)
    if KVMode.AT_REST_4 in sums:
        ours = sums[KVMode.AT_REST_4]
        lab.measure("C2", ours.perplexity_ratio, f"over {len(ours.divergence)} tokens")
    if {KVMode.AT_REST_4, KVMode.PUBLISHED_4} <= set(sums):
        ours, theirs = sums[KVMode.AT_REST_4], sums[KVMode.PUBLISHED_4]
        for criterion in ("C3", "N1"):
            lab.measure(criterion, ours.kl / theirs.kl, f"{ours.kl:.5f} against {theirs.kl:.5f} nats")
        difference = abs(ours.bytes_per_token / theirs.bytes_per_token - 1)
        evidence = f"{ours.bytes_per_token:.0f} against {theirs.bytes_per_token:.0f} bytes a token"
        lab.measure("C4", difference, evidence)
    lab.measure("C5", share_done, f"{share_done:.0%} of all")
    conclude_recall(lab, recall)


def conclude_recall(lab: Lab, recall: Recall) -> None:
    """Against exact KV: the same answers, and what exact KV remembers."""
    eights = [mode for mode in EIGHT_BITS if mode in recall.as_exact]
    if eights:
        evidence = ", ".join(f"{mode}: {recall.as_exact[mode]} of {recall.asked}" for mode in eights)
        lab.measure("N2", min(recall.as_exact[mode] for mode in eights) / recall.asked, evidence)
    lab.observe(
        Finding.POSITIVE if recall.exact_kept else Finding.ANOMALY,
        f"exact KV recalls {recall.exact_kept} of {recall.asked} planted things word for word",
    )
    if KVMode.AT_REST_4 in recall.kept_too:
        kept = recall.kept_too[KVMode.AT_REST_4]
        share = kept / recall.exact_kept if recall.exact_kept else 0.0
        lab.measure("N3", share, f"{kept} of {recall.exact_kept} that exact KV recalls, {recall.asked} were asked for")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that no more than ``1 - share`` of all are above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]
