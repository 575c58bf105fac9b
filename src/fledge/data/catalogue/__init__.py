"""Public datasets as facts: one small file each, and the table of them.

A figure that was not confirmed at a public source says so (``Count.verified``, ``KnownDataset.unverified``); one that
is not known is left empty.
"""

from __future__ import annotations

from fledge.data.catalogue.aid import AID
from fledge.data.catalogue.dior import DIOR, DIOR_R
from fledge.data.catalogue.dota import DOTA_V10, DOTA_V15, DOTA_V20
from fledge.data.catalogue.eurosat import EUROSAT
from fledge.data.catalogue.fair1m import FAIR1M_10, FAIR1M_20
from fledge.data.catalogue.hit_uav import HIT_UAV
from fledge.data.catalogue.hrrsd import HRRSD
from fledge.data.catalogue.hrsc2016 import HRSC2016
from fledge.data.catalogue.imagenet import IMAGENET
from fledge.data.catalogue.known import Count, KnownDataset
from fledge.data.catalogue.loveda import LOVEDA
from fledge.data.catalogue.million_aid import MILLION_AID
from fledge.data.catalogue.nwpu_vhr10 import NWPU_VHR10
from fledge.data.catalogue.ohd_sjtu import OHD_SJTU_L, OHD_SJTU_S
from fledge.data.catalogue.resisc45 import RESISC45
from fledge.data.catalogue.rsdd_sar import RSDD_SAR
from fledge.data.catalogue.rsscn7 import RSSCN7
from fledge.data.catalogue.sar_aircraft import SAR_AIRCRAFT
from fledge.data.catalogue.shiprsimagenet import SHIPRSIMAGENET_V10, SHIPRSIMAGENET_V11
from fledge.data.catalogue.ssdd import SSDD
from fledge.data.catalogue.uc_merced import UC_MERCED
from fledge.data.catalogue.ucas_aod import UCAS_AOD

__all__ = ["CATALOGUE", "Count", "KnownDataset"]

CATALOGUE: dict[str, KnownDataset] = {
    known.key: known
    for known in (
        DOTA_V10,
        DOTA_V15,
        DOTA_V20,
        DIOR,
        DIOR_R,
        HRSC2016,
        OHD_SJTU_S,
        OHD_SJTU_L,
        SHIPRSIMAGENET_V10,
        SHIPRSIMAGENET_V11,
        SAR_AIRCRAFT,
        FAIR1M_10,
        FAIR1M_20,
        HRRSD,
        HIT_UAV,
        NWPU_VHR10,
        UCAS_AOD,
        SSDD,
        RSDD_SAR,
        EUROSAT,
        RESISC45,
        RSSCN7,
        UC_MERCED,
        AID,
        LOVEDA,
        MILLION_AID,
        IMAGENET,
    )
}
