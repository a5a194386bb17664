"""The methods by name.

A new method is one file and one row of the table, or an entry point of another distribution, see
`pruner.plugins`. Nothing here loads torch before a method is used.
"""

from pruner.method import Method
from pruner.plugins import MethodTable

METHODS = MethodTable(
    method
    for method in (
        Method(name="none", scope="none", summary="every token"),
        Method(
            name="uniform",
            scope="frame",
            function="pruner.baselines:rank_uniform",
            summary="evenly over the picture (ordered dithering)",
        ),
        Method(
            name="random",
            scope="frame",
            function="pruner.baselines:rank_random",
            summary="at random",
            is_random=True,
        ),
        Method(
            name="tome",
            scope="share",
            function="pruner.tome:tome",
            summary="similar tokens merged (ToMe, ICLR 2023)",
        ),
        Method(
            name="fastv",
            scope="model",
            function="pruner.fastv:fastv",
            summary="by attention inside the language model (FastV, ECCV 2024)",
        ),
        Method(
            name="gprune",
            scope="frame",
            function="pruner.gprune:rank_gprune",
            summary="by propagation over a token graph (G-Prune, AAAI 2025)",
            has_graph=True,
            num_steps=5,
        ),
        Method(
            name="mr_pruner",
            scope="frame",
            function="pruner.mr_pruner:rank_mr_pruner",
            summary="by token graphs inside and across resolutions (MR-Pruner, WACV 2026)",
            needs_share=True,
            has_graph=True,
        ),
        Method(
            name="coverage",
            scope="bank",
            function="pruner.coverage:rank_coverage",
            chooser="pruner.coverage:cover",
            summary="what stands for the rest of the clip, of MR-Pruner's best (this project's)",
            has_graph=True,
        ),
        Method(
            name="evs",
            scope="clip",
            function="pruner.evs:evs",
            summary="what changed since the frame before (EVS, arXiv 2510.14624)",
        ),
        Method(
            name="vidcom2",
            scope="clip",
            function="pruner.vidcom2:vidcom2",
            summary="what is unlike the rest of the clip (VidCom2, arXiv 2505.14454)",
        ),
        Method(
            name="vcast",
            scope="clip",
            function="pruner.vcast:vcast",
            summary="where the clip turns, and what stands out (V-CAST, arXiv 2603.27650)",
        ),
        Method(
            name="floc",
            scope="clip",
            function="pruner.floc:floc",
            summary="what represents all tokens, by facility location (FLoC, ICLR 2026)",
        ),
        Method(
            name="flashvid",
            scope="share",
            function="pruner.flashvid:flashvid",
            summary="diverse tokens, the rest merged over time (FlashVID, ICLR 2026)",
        ),
    )
)
"""This project's, and those that installed distributions add."""
