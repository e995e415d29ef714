"""Factories that build models of public Lightning projects, with small data made up here.

Each project is imported inside its factory: a machine may have some of them only.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def chemprop_mpnn(lr: float, batch_size: int, seed: int) -> Any:
    """A message-passing network over molecules; its own schedule is Noam by epochs, its LR three tied arguments."""
    from chemprop import data, models, nn

    chains = ["C" * length for length in range(1, 13)]
    smiles = [f"{head}{chain}{tail}" for chain in chains for head in ("", "O", "N", "Cl") for tail in ("", "O", "=O")]
    smiles += [f"c1ccccc1{chain}" for chain in chains]
    targets = [[0.1 * len(text) - 0.5 * text.count("O") + text.count("c")] for text in smiles]
    points = [data.MoleculeDatapoint.from_smi(text, y) for text, y in zip(smiles, targets, strict=True)]
    order = np.random.default_rng(0).permutation(len(points))
    train, held = order[:128], order[128:]
    training = data.MoleculeDataset([points[index] for index in train])
    scaler = training.normalize_targets()
    validating = data.MoleculeDataset([points[index] for index in held])
    validating.normalize_targets(scaler)
    model = models.MPNN(
        nn.BondMessagePassing(d_h=32, depth=2),
        nn.MeanAggregation(),
        nn.RegressionFFN(input_dim=32, hidden_dim=32),
        batch_norm=False,
        init_lr=lr / 10,
        max_lr=lr,
        final_lr=lr / 10,
    )
    loaders = [data.build_dataloader(one, batch_size=batch_size, num_workers=0) for one in (training, validating)]
    return model, *loaders


def scvi_vae(lr: float, batch_size: int, seed: int) -> Any:
    """A variational autoencoder of gene counts; its KL term is annealed, its loader draws whole batches."""
    import anndata
    import scvi

    generator = np.random.default_rng(0)
    kinds = generator.integers(3, size=240)
    means = generator.gamma(1.0, 2.0, size=(3, 50))
    cells = anndata.AnnData(generator.poisson(means[kinds]).astype(np.float32))
    # Its split is drawn from a generator of its own, which is seeded from the clock unless this is set.
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(cells)
    model = scvi.model.SCVI(cells, n_hidden=16, n_latent=4)
    plan = scvi.train.TrainingPlan(model.module, lr=lr, n_steps_kl_warmup=20, n_epochs_kl_warmup=None)
    data = scvi.dataloaders.DataSplitter(model.adata_manager, train_size=0.8, batch_size=batch_size)
    return plan, data


def neuralforecast_nhits(lr: float, batch_size: int, seed: int) -> Any:
    """A forecaster: `batch_size` counts series and changes nothing, `windows_batch_size` is what a step averages."""
    import pandas as pd
    from neuralforecast.losses.pytorch import MAE
    from neuralforecast.models import NHITS
    from neuralforecast.tsdataset import TimeSeriesDataModule, TimeSeriesDataset

    generator = np.random.default_rng(0)
    moments = pd.date_range("2020-01-01", periods=120, freq="D")
    frames = [
        pd.DataFrame(
            {
                "unique_id": f"s{number}",
                "ds": moments,
                "y": np.sin(np.arange(120) / (3 + number)) + 0.1 * generator.standard_normal(120),
            }
        )
        for number in range(16)
    ]
    dataset, *_ = TimeSeriesDataset.from_df(pd.concat(frames))
    model = NHITS(
        h=6,
        input_size=18,
        loss=MAE(),
        max_steps=100,
        learning_rate=lr,
        windows_batch_size=batch_size,
        mlp_units=[[16, 16]] * 3,
        random_seed=seed,
    )
    model.val_size = 12
    model.test_size = 0
    return model, TimeSeriesDataModule(dataset, batch_size=4, valid_batch_size=16)
