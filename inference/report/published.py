"""What others published on MVTec 3D-AD, mean of its ten categories, in percent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One row; None where no figure could be checked against its source."""

    method: str
    source: str
    i_auroc: float | None = None
    p_auroc: float | None = None
    aupro_30: float | None = None
    aupro_01: float | None = None


PUBLISHED = (
    Published(
        method="CMDR-IAD, RGB + 3D",
        source="its abstract, arXiv 2603.03939",
        i_auroc=97.3,
        p_auroc=99.6,
        aupro_30=97.6,
    ),
    Published(
        method="G2SF",
        source="its repository; ICCV 2025, arXiv 2503.10091",
        i_auroc=97.1,
        p_auroc=99.7,
        aupro_30=97.9,
        aupro_01=46.8,
    ),
    Published(
        method="M3DM, as published",
        source="CVPR 2023, as quoted by Xu et al., Appl. Sci. 2026, 16(11), 5483",
        i_auroc=94.5,
        p_auroc=99.2,
        aupro_30=96.4,
    ),
    Published(
        method="M3DM, its released code run once",
        source="Xu et al., Appl. Sci. 2026, 16(11), 5483",
        i_auroc=77.9,
        p_auroc=97.5,
        aupro_30=91.5,
    ),
    Published(
        method="M3DM + disagreement scoring",
        source="Xu et al., Appl. Sci. 2026, 16(11), 5483",
        i_auroc=80.0,
        p_auroc=98.0,
        aupro_30=92.6,
    ),
    Published(
        method="CFM", source="CVPR 2024, arXiv 2312.04521; its figures could not be checked, so none are here"
    ),
)
