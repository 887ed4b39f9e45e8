using AdjointDpm.Schedules;

namespace AdjointDpm.Tests.Schedules;

public sealed class ScheduleTests
{
    public static TheoryData<NoiseSchedule> Schedules() =>
    [
        DiscreteVp.StableDiffusion,
        DiscreteVp.Create(BetaSchedule.Linear, 1e-4, 0.02),
        DiscreteVp.Create(BetaSchedule.SquaredCosine, 0, 0),
        new LinearVp(),
        new VarianceExploding(),
    ];

    [Theory]
    [MemberData(nameof(Schedules))]
    public void TimeAt_LevelOfATime_GivesTheTimeBack(NoiseSchedule schedule)
    {
        for (var i = 0; i <= 100; i++)
        {
            var time = schedule.CleanTime + ((schedule.NoisyTime - schedule.CleanTime) * i / 100 * 0.99999);
            var point = schedule.PointAt(schedule.At(time).Rho);
            Assert.Equal(time, point.Time, 1e-9 * schedule.NoisyTime);
            Assert.Equal(schedule.At(time).Alpha, point.Level.Alpha, 1e-12);
        }
    }

    [Fact]
    public void DiscreteVp_StableDiffusion_HasTheKnownLevels()
    {
        var schedule = DiscreteVp.StableDiffusion;
        Assert.Equal(0.029167, schedule.RhoMin, 1e-6);
        Assert.Equal(14.6146, schedule.RhoMax, 1e-4);
        // Between trained steps log alpha is linear in time.
        Assert.Equal((Math.Log(schedule.At(10).Alpha) + Math.Log(schedule.At(11).Alpha)) / 2, Math.Log(schedule.At(10.5).Alpha), 1e-15);
    }

    [Theory]
    [MemberData(nameof(Schedules))]
    public void At_VariancePreserving_KeepsUnitVariance(NoiseSchedule schedule)
    {
        var (alpha, sigma) = schedule.At((schedule.CleanTime + schedule.NoisyTime) / 2);
        if (schedule is not VarianceExploding)
            Assert.Equal(1, (alpha * alpha) + (sigma * sigma), 1e-14);
    }

    [Fact]
    public void Schedule_OutsideItsRange_SaysWhatItSpans()
    {
        var schedule = DiscreteVp.StableDiffusion;
        Assert.Contains("[0, 999]", Assert.Throws<ArgumentOutOfRangeException>(() => schedule.At(1000)).Message, StringComparison.Ordinal);
        Assert.Contains("spans [0.029", Assert.Throws<ArgumentOutOfRangeException>(() => schedule.TimeAt(0.01)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => schedule.At(double.NaN));
        Assert.Equal(0, schedule.TimeAt(0));
        Assert.Contains("betas[1] = 1", Assert.Throws<ArgumentException>(() => new DiscreteVp(0.1, 1.0)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TimeGrid_NotMonotone_NamesThePoint()
    {
        var schedule = DiscreteVp.StableDiffusion;
        Assert.Contains("rho[2] = 5 follows 5", Assert.Throws<ArgumentException>(() => new TimeGrid(schedule, 10.0, 5.0, 5.0)).Message, StringComparison.Ordinal);
        Assert.Contains("rho[2] = 6", Assert.Throws<ArgumentException>(() => new TimeGrid(schedule, 10.0, 5.0, 6.0)).Message, StringComparison.Ordinal);
        Assert.Contains("rho[1] = NaN", Assert.Throws<ArgumentException>(() => new TimeGrid(schedule, 10.0, double.NaN)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new TimeGrid(schedule, 10.0));
    }

    [Theory]
    [InlineData(GridKind.LogSnr)]
    [InlineData(GridKind.Time)]
    [InlineData(GridKind.Karras)]
    public void TimeGrid_WholeSchedule_SpansItAndReverses(GridKind kind)
    {
        var schedule = DiscreteVp.StableDiffusion;
        var grid = TimeGrid.Create(kind, schedule, 12);
        Assert.Equal(12, grid.Steps);
        Assert.Equal((999, schedule.RhoMax), (grid.Start.Time, grid.Start.Rho));
        Assert.Equal((0, schedule.RhoMin), (grid.End.Time, grid.End.Rho));
        Assert.Equal(grid.Points.Reverse(), grid.Reversed().Points);
    }

    [Fact]
    public void LogSnr_Steps_AreUniformInLambda()
    {
        var points = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 9).Points;
        var steps = points.Zip(points.Skip(1), (a, b) => b.Level.Lambda - a.Level.Lambda).ToArray();
        Assert.All(steps, s => Assert.Equal(steps[0], s, 1e-12));
    }

    // What diffusers 0.21 schedulers return from set_timesteps.
    [Theory]
    [InlineData(GridKind.Leading, 5, 1, "801 601 401 201 1")]
    [InlineData(GridKind.Leading, 3, 0, "666 333 0")]
    [InlineData(GridKind.Trailing, 5, 0, "999 799 599 399 199")]
    [InlineData(GridKind.Linspace, 5, 0, "999 749 500 250 0")]
    public void Diffusers_Spacing_GivesItsTimesteps(GridKind kind, int steps, int offset, string expected)
    {
        var grid = TimeGrid.Diffusers(DiscreteVp.StableDiffusion, kind, steps, offset);
        Assert.Equal(expected, string.Join(' ', grid.Points.SkipLast(1).Select(p => p.Time)));
        Assert.Equal(0, grid.End.Rho);
        Assert.Equal(1, grid.End.Level.Alpha);
    }

    [Fact]
    public void Diffusers_EndingWhereTheLastStepIs_LeavesOutTheIdentity()
    {
        var schedule = DiscreteVp.StableDiffusion;
        Assert.Equal([751, 501, 251, 1, 0], TimeGrid.Diffusers(schedule, GridKind.Leading, 4, offset: 1, endWithoutNoise: false).Points.Select(p => p.Time));
        var grid = TimeGrid.Diffusers(schedule, GridKind.Leading, 4, endWithoutNoise: false);
        Assert.Equal([750, 500, 250, 0], grid.Points.Select(p => p.Time));
        Assert.Equal(schedule.RhoMin, grid.End.Rho);
    }

    // From Python's math.log1p and math.expm1.
    [Theory]
    [InlineData(1e-10, 9.9999999995e-11, 1.00000000005e-10)]
    [InlineData(-1e-5, -1.0000050000333335e-05, -9.999950000166666e-06)]
    [InlineData(0.3, 0.26236426446749106, 0.3498588075760031)]
    public void Accurate_SmallNumbers_KeepAllDigits(double x, double log, double exp)
    {
        Assert.Equal(log, Accurate.Log1p(x), 3e-16 * Math.Abs(log));
        Assert.Equal(exp, Accurate.Expm1(x), 3e-16 * Math.Abs(exp));
        Assert.Equal((0, -1), (Accurate.Expm1(0), Accurate.Expm1(double.NegativeInfinity)));
        Assert.Equal(double.PositiveInfinity, Accurate.Log1p(double.PositiveInfinity));
    }

    // Lu et al.'s cancellation-free root, down to the clean end.
    [Fact]
    public void LinearVp_NearTheCleanEnd_InvertsToRounding()
    {
        var schedule = new LinearVp(cleanTime: 1e-6);
        for (var time = 1e-6; time < 1; time *= 1.7)
            Assert.Equal(time, schedule.TimeAt(schedule.At(time).Rho), 4e-15 * time);
    }

    [Fact]
    public void FlowMatching_WholeRange_InvertsFromNoNoiseToPureNoise()
    {
        var schedule = new FlowMatching(1000);
        Assert.Equal((0, double.PositiveInfinity), (schedule.RhoMin, schedule.RhoMax));
        Assert.Equal(new GridPoint(1000, new(0, 1)), schedule.PointAt(double.PositiveInfinity));
        Assert.Equal(250, schedule.TimeAt(schedule.At(250).Rho), 1e-12);
        Assert.Equal([1000, 900, 750, 500, 0], TimeGrid.Flow(schedule, 4, shift: 3).Points.Select(p => Math.Round(p.Time, 9)));
        Assert.Contains("rhoMax", Assert.Throws<ArgumentOutOfRangeException>(() => TimeGrid.LogSnr(schedule, 4)).Message, StringComparison.Ordinal);
    }

    // What diffusers' multistep and sigma schedulers return from set_timesteps.
    [Theory]
    [InlineData(GridKind.Linspace, SchedulerFamily.Multistep, 5, 0, "999 799 599 400 200")]
    [InlineData(GridKind.Leading, SchedulerFamily.Multistep, 5, 1, "831 665 499 333 167")]
    [InlineData(GridKind.Trailing, SchedulerFamily.Multistep, 5, 0, "999 799 599 399 199")]
    [InlineData(GridKind.Linspace, SchedulerFamily.Interpolated, 5, 0, "999 749.25 499.5 249.75 0")]
    [InlineData(GridKind.Leading, SchedulerFamily.Interpolated, 5, 1, "801 601 401 201 1")]
    public void Diffusers_Families_GiveTheirTimesteps(GridKind kind, SchedulerFamily family, int steps, int offset, string expected)
    {
        var grid = TimeGrid.Diffusers(DiscreteVp.StableDiffusion, kind, steps, offset, family: family);
        Assert.Equal(expected, string.Join(' ', grid.Points.SkipLast(1).Select(p => p.Time)));
    }
}
