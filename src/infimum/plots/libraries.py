"""What pictures are drawn with: imported before the other modules, so that the extra is named."""

from infimum.base.extras import required

required("matplotlib", "plots")
