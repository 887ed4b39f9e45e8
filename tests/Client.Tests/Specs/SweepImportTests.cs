using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Tests.Specs;

/// <summary>Sweep files of other programs, as their own documentation has them.</summary>
public sealed class SweepImportTests
{
    private const string Wandb = """
        program: train.py
        name: sweepdemo
        method: bayes
        metric: {goal: minimize, name: validation_loss, target: 0.01}
        parameters:
          learning_rate: {min: 0.0001, max: 0.1, distribution: log_uniform_values}
          batch_size: {values: [16, 32, 64]}
          weight_decay: {min: -9.2103, max: -4.6052, distribution: log_uniform}
          rank: {min: 2, max: 16}
          dropout: {value: 0.1}
        early_terminate: {type: hyperband, min_iter: 3}
        run_cap: 50
        """;

    private const string Katib = """
        apiVersion: kubeflow.org/v1beta1
        kind: Experiment
        metadata: {name: median-stop}
        spec:
          objective: {type: maximize, goal: 0.99, objectiveMetricName: Validation-accuracy}
          algorithm: {algorithmName: multivariate-tpe}
          earlyStopping: {algorithmName: medianstop, algorithmSettings: [{name: min_trials_required, value: "1"}, {name: start_step, value: "2"}]}
          parallelTrialCount: 2
          maxTrialCount: 15
          maxFailedTrialCount: 3
          parameters:
            - {name: lr, parameterType: double, feasibleSpace: {min: "0.01", max: "0.05"}}
            - {name: optimizer, parameterType: categorical, feasibleSpace: {list: [sgd, adamw]}}
            - {name: num-steps, parameterType: int, feasibleSpace: {min: "2", max: "5"}}
            - {name: weight-decay, parameterType: double, feasibleSpace: {min: "0", max: "0.3", step: "0.1"}}
          trialTemplate: {primaryContainerName: training-container}
        """;

    private const string Determined = """
        name: mnist_pytorch_adaptive_search
        hyperparameters:
          learning_rate: {type: log, base: 10, minval: -4, maxval: -1}
          optimizer: {type: categorical, vals: [adamw, sgd]}
          model: {rank: {type: int, minval: 2, maxval: 9}}
          n_filters: {type: const, val: 8}
        searcher: {name: adaptive_asha, metric: validation_loss, smaller_is_better: true, max_trials: 16, time_metric: batches, max_time: 1024}
        resources: {slots_per_trial: 2}
        entrypoint: python3 train.py --epochs 1
        """;

    [Fact]
    public void Wandb_IsRead() => Check(Wandb, "W&B", """
        objective:
          metric: heldOut.loss.after
          goal: minimize
          target: 0.01
        algorithm:
          name: gp
        parameters:
          optimizer.learningRate:
            distribution: logUniform
            min: 0.0001
            max: 0.1
          training.samplesPerShard:
            values: ["16", "32", "64"]
          optimizer.weightDecay:
            distribution: logUniform
            min: 0.0001
            max: 0.01
          train.rank:
            distribution: intUniform
            min: 2
            max: 16
        maxTrials: 50
        earlyStopping:
          name: hyperband
          minSteps: 3
          reductionFactor: 3
        """, ["'program' on line 1", "'dropout' is always 0.1"]);

    [Fact]
    public void Katib_IsRead() => Check(Katib, "Katib", """
        objective:
          metric: heldOut.accuracy.after
          goal: maximize
          target: 0.99
        algorithm:
          name: tpe
        parameters:
          optimizer.learningRate:
            distribution: uniform
            min: 0.01
            max: 0.05
          optimizer.name:
            values: [sgd, adamw]
          training.steps:
            distribution: intUniform
            min: 2
            max: 5
          optimizer.weightDecay:
            values: ["0", "0.1", "0.2", "0.3"]
        maxTrials: 15
        earlyStopping:
          name: median
          minSteps: 2
          minTrials: 1
        maxConcurrentTrials: 2
        budget:
          failures: 3
        """, ["'trialTemplate'"]);

    [Fact]
    public void Determined_IsRead() => Check(Determined, "Determined", """
        objective:
          metric: heldOut.loss.after
          goal: minimize
        algorithm:
          name: random
        parameters:
          optimizer.learningRate:
            distribution: logUniform
            min: 0.0001
            max: 0.1
          optimizer.name:
            values: [adamw, sgd]
          train.rank:
            distribution: intUniform
            min: 2
            max: 9
        maxTrials: 16
        earlyStopping:
          name: asha
          reductionFactor: 4
          minSteps: 4
        """, ["'entrypoint'", "A whole trial had 1024 batches"]);

    [Theory]
    [InlineData("method: bayes", "method: bayesian", "s.yaml:3:9: The method 'bayesian' has no counterpart here. Known: random, grid, bayes.")]
    [InlineData("learning_rate:", "temperature_of_soup:", "s.yaml:6:3: 'temperature_of_soup' has no counterpart here. Say which path it stands for: --map temperature_of_soup=optimizer.learningRate")]
    [InlineData("run_cap: 50", "run_cap: many", "s.yaml:12:10: run_cap must be a number.")]
    [InlineData("{min: 2, max: 16}", "{mu: 2, sigma: 1, distribution: normal}", "s.yaml:9:3: 'rank' has neither values nor min and max; the distribution normal is not bounded, which a search here must be. Write min and max.")]
    [InlineData("parameters:", "parametres:", "s.yaml:1:1: This is no sweep file of W&B (method, metric, parameters), Katib (kind: Experiment with objective, algorithm, parameters) or Determined (searcher, hyperparameters).")]
    public void WhatCannotBeRead_IsNamedWithItsPlace(string old, string with, string expected)
    {
        var result = SweepImport.Read(Wandb.Replace(old, with, StringComparison.Ordinal), "s.yaml", new Dictionary<string, string>());
        Assert.Null(result.Search);
        Assert.Equal(expected, Assert.Single(result.Problems).ToString());
    }

    [Fact]
    public void Map_SaysWhatNamesStandFor()
    {
        var result = SweepImport.Read(Wandb.Replace("rank:", "width:", StringComparison.Ordinal), "s.yaml", new Dictionary<string, string> { ["width"] = "train.rank", ["validation_loss"] = "loss" });
        Assert.Equal("train.rank", result.Search!["parameters"]!.AsObject().Last().Key);
        Assert.Equal("loss", result.Search["objective"]!["metric"]!.GetValue<string>());
    }

    private static void Check(string text, string system, string expected, string[] notes)
    {
        var result = SweepImport.Read(text, "s.yaml", new Dictionary<string, string>());
        Assert.True(result.Problems.Count == 0, string.Join('\n', result.Problems));
        Assert.Equal(system, result.System);
        Assert.Equal(expected, ExperimentYaml.Part(result.Search!));
        Assert.All(notes, note => Assert.Contains(result.Notes, text => text.Contains(note, StringComparison.Ordinal)));
    }
}
