"""Check a data set: decode every file, match frames with labels, and list problems (`tcseg data check`)."""

from tcseg.data.integrity.contents import check
from tcseg.data.integrity.report import Report

__all__ = ["Report", "check"]
