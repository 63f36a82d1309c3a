"""Static drawings of the report page: records in, places and words out; the template `chart.html` writes the SVG.

Places along the learning rate are percentages, all others pixels: a drawing takes the width that its page has, and its
text stays the page's text.
"""
