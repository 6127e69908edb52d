"""What varies from one good part to the next and is no defect: printed labels, codes, the part's place.

A :class:`Zone` is an area of the photograph that is not inspected, or by a threshold of its own. A :class:`ZonePlan`
is what a detector does about its zones, at the fit and on the line alike.
"""

from andon.nuisance.overlay import draw_zones
from andon.nuisance.plan import Judged, Placed, Places, Treated, ZonePlan, fixed_places
from andon.nuisance.zone_files import check_zones, drawn_on, read_zones, write_zones, zones_of_mask
from andon.nuisance.zones import Cells, Zone

__all__ = [
    "Cells",
    "Judged",
    "Placed",
    "Places",
    "Treated",
    "Zone",
    "ZonePlan",
    "check_zones",
    "draw_zones",
    "drawn_on",
    "fixed_places",
    "read_zones",
    "write_zones",
    "zones_of_mask",
]
