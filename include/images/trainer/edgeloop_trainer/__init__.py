"""What the trainer image offers a train.py: conversion to ONNX, and proof that the ONNX answers as the model does.

    from edgeloop_trainer import export, parity

    onnx = export.to_onnx(model, features=8)
    figures = parity.compare(model.predict, onnx, holdout)

:mod:`~edgeloop_trainer.export` converts regressors of scikit-learn, XGBoost and LightGBM.
:mod:`~edgeloop_trainer.parity` compares any two ways to predict, so a script may as well bring an ONNX file of its own.
"""
