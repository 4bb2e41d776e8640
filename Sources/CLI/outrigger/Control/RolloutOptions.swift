import ArgumentParser
import ControlAPI

/// How a change reaches the proxies, for the commands that change something.
struct RolloutOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "In stages, each a number of proxies or a share of them: canary=1,25%,100% (default: to all at once).", valueName: "stages"))
    var rollout: String?

    @Option(help: ArgumentHelp("How long each stage is watched: 30s, 5m (default: 30s).", valueName: "time"))
    var pause: TimeSpan?

    @Option(
        name: .customLong("max-errors"),
        help: ArgumentHelp("Goes back when more of the requests fail, and twice as many as before: 5%.", valueName: "percent"))
    var maxErrors: String?

    func validate() throws { _ = try plan() }

    func plan() throws -> RolloutPlan? {
        guard let rollout else {
            if pause != nil || maxErrors != nil { throw ValidationError("--pause and --max-errors are of a --rollout.") }
            return nil
        }
        let list = rollout.hasPrefix("canary=") ? rollout.dropFirst("canary=".count) : rollout[...]
        let stages = list.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        var lastCount = 0
        var lastShare = 0.0
        for stage in stages {
            if stage.hasSuffix("%") {
                guard let share = Double(stage.dropLast()), share > lastShare, share <= 100 else { throw Self.wrong(stage, rollout) }
                lastShare = share
            } else {
                guard let count = Int(stage), count > lastCount, lastShare == 0 else { throw Self.wrong(stage, rollout) }
                lastCount = count
            }
        }
        guard lastShare == 100 else { throw ValidationError("The last stage of --rollout must be 100%: \"\(rollout)\".") }
        return RolloutPlan(stages: stages, pauseSeconds: pause?.seconds ?? 30, maxErrorPercent: try percent())
    }

    private func percent() throws -> Double? {
        guard let maxErrors else { return nil }
        let digits = maxErrors.hasSuffix("%") ? maxErrors.dropLast() : maxErrors[...]
        guard let percent = Double(digits), 0...100 ~= percent else {
            throw ValidationError("--max-errors: expected a share such as 5%, found \"\(maxErrors)\".")
        }
        return percent
    }

    private static func wrong(_ stage: String, _ all: String) -> ValidationError {
        ValidationError(
            "--rollout: expected numbers of proxies, then shares, each above the one before (1,25%,100%), found \"\(stage)\" in \"\(all)\"."
        )
    }
}

/// `--wait` and its limit.
struct WaitOptions: ParsableArguments {
    @Flag(help: "Waits until every connected proxy has applied the change; a refusal or the timeout ends it with status 1.")
    var wait = false

    @Option(name: .customLong("wait-timeout"), help: ArgumentHelp("How long (default: 2m, and the time of a rollout).", valueName: "time"))
    var limit: TimeSpan?

    /// - Parameter plan: Takes its own time.
    func seconds(_ plan: RolloutPlan?) -> Double {
        limit?.seconds ?? 120 + (plan.map { Double($0.stages.count) * ($0.pauseSeconds + 30) } ?? 0)
    }
}
