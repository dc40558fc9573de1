"""A data set of one's own: a folder with frames, labels and classes.

    frames/<clip>/*.png|jpg    the frames of a clip in the order of their names, or one film (*.mp4)
    labels/<clip>/*.png        label maps of some frames or all, under the names of the frames (of a film: the number from 0)
    classes.yaml               names, ids, colours, ignored values (see `class_tables`)
    split.yaml                 optional: train: [clips], val: [clips], stills: [clips whose frames are single pictures]

Without split.yaml the last fifth of the labelled clips is for validation.
"""

from tcseg.data.own.layout import OwnFolder, open_folder

__all__ = ["OwnFolder", "open_folder"]
