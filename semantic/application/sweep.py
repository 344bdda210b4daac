"""What is to be run: experiments with the parameters that the caller sets, and the combinations of a sweep."""

from collections.abc import Mapping, Sequence
from itertools import product

from attrs import field, frozen

from semantic.domain.errors import UnknownExperimentOptionError
from semantic.domain.experiments import Experiment, Parameter, parameter_text


@frozen
class Order:
    """One execution to carry out. ``variant`` names the combination of a sweep; empty for none."""

    experiment_id: str
    overrides: Mapping[str, Parameter] = field(factory=dict)
    variant: str = ""


def orders_of(
    experiment: Experiment, settings: Mapping[str, str] | None = None, sweep: Mapping[str, str] | None = None
) -> list[Order]:
    """One order, or one for each combination of the values in ``sweep``; all as written on a command line.

    The values of a sweep are separated by commas, by semicolons where the parameter is itself a list. Raises
    :class:`UnknownExperimentOptionError` for what is no parameter, or no value of its type.
    """
    fixed = {name: experiment.parse_parameter(name, text) for name, text in (settings or {}).items()}
    axes = {name: _values(experiment, name, text) for name, text in (sweep or {}).items()}
    both = fixed.keys() & axes.keys()
    if both:
        raise UnknownExperimentOptionError(f"{experiment.id}: {min(both)} is both set and swept; do one of the two")
    if not axes:
        return [Order(experiment.id, fixed)]
    orders = []
    for values in product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        variant = "+".join(f"{name}={parameter_text(value)}" for name, value in chosen.items())
        orders.append(Order(experiment.id, {**fixed, **chosen}, variant))
    return orders


def _values(experiment: Experiment, name: str, text: str) -> Sequence[Parameter]:
    declared = {
        **{key: value for profile in experiment.profiles for key, value in profile.parameters.items()},
        **experiment.method.parameters,
    }
    separator = ";" if isinstance(declared.get(name), tuple) else ","
    values = [experiment.parse_parameter(name, part) for part in text.split(separator) if part.strip()]
    if not values:
        raise UnknownExperimentOptionError(f"{experiment.id}: the sweep of {name} names no value")
    return list(dict.fromkeys(values))
