"""Other LRP libraries behind one call, each with the rules that are equivalent to geoxai's.

Only installed ones are in ``PEERS``; zennit needs the torchvision stand-in of ``tests/peers``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor, nn

from benchmarks.networks import Case

Run = Callable[[nn.Module, Tensor, Case], Tensor]
DENSE, CONVOLUTION = (nn.Linear,), (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def zennit(rules: str) -> Run | None:
    """zennit 0.5.1: rules by layer type."""
    from zennit.composites import LayerMapComposite
    from zennit.rules import AlphaBeta, Epsilon, Gamma, Norm, Pass, ZPlus

    by_type = {
        "epsilon": (Epsilon(1e-6), Epsilon(1e-6)),
        "alpha1_beta0": (AlphaBeta(1, 0), AlphaBeta(1, 0)),
        "alpha2_beta1": (AlphaBeta(2, 1), AlphaBeta(2, 1)),
        "gamma": (Gamma(0.25), Gamma(0.25)),
        "epsilon_plus": (Epsilon(1e-6), ZPlus()),
    }
    dense, conv = by_type[rules]

    def run(network: nn.Module, x: Tensor, case: Case) -> Tensor:
        layers = [(nn.ReLU, Pass()), (POOLS, Norm()), (DENSE, dense), (CONVOLUTION, conv), (nn.BatchNorm2d, conv)]
        leaf = x.detach().requires_grad_()
        with LayerMapComposite(layers).context(network) as hooked:
            output = hooked(leaf)
            return torch.autograd.grad(output, leaf, output.detach() * case.coefficients(output))[0]

    return run


def captum(rules: str) -> Run | None:
    """captum 0.9: the rule is set again on every layer for each call, since captum deletes it afterwards."""
    from captum.attr import LRP
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, IdentityRule

    kinds = {
        "epsilon": (lambda: EpsilonRule(1e-6),) * 2,
        "alpha1_beta0": (Alpha1_Beta0_Rule, Alpha1_Beta0_Rule),
        "gamma": (lambda: GammaRule(0.25),) * 2,
        "epsilon_plus": (lambda: EpsilonRule(1e-6), Alpha1_Beta0_Rule),
    }
    if rules not in kinds:
        return None

    def run(network: nn.Module, x: Tensor, case: Case) -> Tensor:
        for module in network.modules():
            if isinstance(module, DENSE + CONVOLUTION):
                module.rule = kinds[rules][isinstance(module, CONVOLUTION)]()
            elif isinstance(module, nn.Flatten):
                module.rule = IdentityRule()
        scores = _Scores(network, case)
        relevance = LRP(scores).attribute(x.detach().clone(), target=None).detach()
        return relevance / scores.last.reshape(-1, *[1] * (x.ndim - 1))

    return run


class _Scores(nn.Module):
    """One number per sample whose derivative is the explained outputs: captum starts relevance there with the
    derivative, times this number.
    """

    def __init__(self, network: nn.Module, case: Case):
        super().__init__()
        self.network, self.case = network, case
        self.last = torch.ones(0)

    def forward(self, x: Tensor) -> Tensor:
        output = self.network(x)
        score = (output * output.detach() * self.case.coefficients(output)).flatten(1).sum(1)
        self.last = score.detach()
        return score


def autolrp(rules: str) -> Run | None:
    """autolrp 0.2: starts at 1 per output, so that output by output is scaled by its value."""
    from autolrp import BASE, LRPConfig, graph_lrp, tensor  # noqa: F401

    dense, conv = {
        "epsilon": ("epsilon", "epsilon"),
        "alpha1_beta0": (("alpha_beta", {"alpha": 1.0, "beta": 0.0}),) * 2,
        "alpha2_beta1": (("alpha_beta", {"alpha": 2.0, "beta": 1.0}),) * 2,
        "gamma": (("gamma", {"gamma": 0.25}),) * 2,
        "epsilon_plus": ("epsilon", "zplus"),
    }[rules]
    table = {**BASE, "ConvolutionBackward": conv, "AddmmBackward": dense}

    def run(network: nn.Module, x: Tensor, case: Case) -> Tensor:
        leaf = tensor(x.detach())
        output = network(leaf)
        explained = (output * case.coefficients(output)).sum()
        explained.lrp(config=LRPConfig(rule=table, eps=1e-6))
        return torch.as_tensor(leaf.relevance) * torch.as_tensor(explained).detach()

    return run


def _installed() -> dict[str, Callable[[str], Run | None]]:
    found = {}
    for peer in (zennit, captum, autolrp):
        try:
            import_module(peer.__name__)
        except ImportError:
            continue
        found[peer.__name__] = peer
    return found


PEERS = _installed()
