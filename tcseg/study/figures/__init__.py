"""Figures of the report: functions from arrays and tables to a matplotlib Figure.

Pure functions: nothing is read, shown or saved here (`Study.figure` does that), and pyplot's global state is untouched.
Where a table says NaN the figure leaves a gap; where there is nothing at all it says so in words. Shares are 0..1 in
tables and percent on axes. Modules: `style` (colours, shared parts), `pictures`, `charts` (general, and per class), `training`,
`ablation`, `flows`, `measurement`, `realtime`, `sweeps`; `interactive` and `captions` make HTML. A caller writes
`figures.image_grid(...)`, whichever module it is in.
"""

from __future__ import annotations

from .ablation import (
    FOREST,
    LOWER_IS_BETTER,
    METRIC_NAMES,
    ablation_heatmap,
    accuracy_consistency,
    cost,
    design,
    effects_forest,
    recipe_means,
    score_table,
)
from .charts import bars, class_gains, class_iou, class_shares, lines
from .flows import flow_quality, tc_by_flow
from .measurement import dose_response, metrics_controls, tc_vs_flow_noise
from .pictures import (
    as_picture,
    beside,
    class_palette,
    contact_sheet,
    flow_colors,
    flow_picture,
    highlight,
    image_grid,
    lit,
    overlay,
    predictions,
    scalar_maps,
    showpiece,
    time_slices,
    titled,
)
from .realtime import SCOPES, against, jitter, latency, roofline, speed_and_quality, waterfall
from .style import BLUE, CYCLE, GRAY, GREEN, ORANGE, PALE, PINK, RECIPE_COLORS, RED, SKY, STYLE, YELLOW
from .sweeps import pareto, sweep_dots, sweep_lines
from .training import soft_targets, training_curves

__all__ = [
    "BLUE", "CYCLE", "FOREST", "GRAY", "GREEN", "LOWER_IS_BETTER", "METRIC_NAMES", "ORANGE", "PALE", "PINK",
    "RECIPE_COLORS", "RED", "SCOPES", "SKY", "STYLE", "YELLOW", "ablation_heatmap", "accuracy_consistency", "against",
    "as_picture", "bars", "beside", "class_gains", "class_iou", "class_palette", "class_shares", "contact_sheet",
    "cost", "design", "dose_response", "effects_forest", "flow_colors", "flow_picture", "flow_quality", "highlight",
    "image_grid", "jitter", "latency", "lines", "lit", "metrics_controls", "overlay", "pareto", "predictions",
    "recipe_means", "roofline", "scalar_maps", "score_table", "showpiece", "soft_targets", "speed_and_quality",
    "sweep_dots", "sweep_lines", "tc_by_flow", "tc_vs_flow_noise", "time_slices", "titled", "training_curves",
    "waterfall",
]  # fmt: skip
