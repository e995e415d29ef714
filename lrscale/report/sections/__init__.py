"""The sections of the report, one file each; `lrscale.report.outline` puts them in order."""
