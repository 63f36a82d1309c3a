"""From files and folders of any layout to `Checkpoint`s: names, links of optimizer states, steps, rates in between."""
