import ControlAPI
import Foundation

/// Where a change stands among the proxies.
struct AppliedProgress: Equatable {
    enum State: Equatable {
        case waiting
        case done
        /// Sentences.
        case failed([String])
    }

    var state: State
    /// One line for people.
    var line: String

    /// - Parameters:
    ///   - revision: that is waited for.
    ///   - rollout: of the change, if it is a staged one.
    init(_ status: MeshStatus, revision: Int, rollout item: RolloutItem?) {
        let nodes = status.nodes.filter(\.isConnected)
        let applied = nodes.filter(\.hasApplied)
        line = nodes.isEmpty ? "no proxy is connected" : "\(applied.count) of \(counted(nodes.count, "proxy")) applied"
        if let item { line += ", rollout \(item.id) \(item.state), stage \(item.stage + 1) of \(item.stages.count)" }

        if let item, item.state == "compensated" || item.state == "stopped" {
            state = .failed(["rollout \(item.id) is \(item.state)\(item.reason.map { ": \($0)" } ?? "")"])
            return
        }
        let refusals = nodes.compactMap { node in
            node.rejection.map { "\(node.subject.path) (\(node.instance)) refused: \($0)" }
        }
        // A rollout decides by itself what a refusal means; its end tells.
        if !refusals.isEmpty, item == nil {
            state = .failed(refusals)
            return
        }
        // Until it is compiled, what proxies want is the old.
        let isCompiled = (status.compiledRevision ?? status.revision) >= revision
        let isRolledOut = item == nil || item?.state == "completed"
        state = isCompiled && isRolledOut && applied.count == nodes.count ? .done : .waiting
        if !isCompiled { line = "compiling revision \(revision)" }
    }
}

extension NodeItem {
    /// Other agents than ours do not say that they run what they have accepted.
    var hasApplied: Bool {
        guard let wanted else { return false }
        return applied == wanted || applied == nil && !agent.hasPrefix("outrigger") && acknowledged == wanted
    }
}

extension Session {
    /// - Throws: a `Failure` where a proxy refuses, a rollout goes back, or time is up.
    func waitUntilApplied(_ result: ChangeResult, atMost limit: Double) throws {
        let deadline = screen.now().addingTimeInterval(limit)
        var said = ""
        var looksDone = false
        var missing: [String] = []
        while true {
            let look = try patiently {
                let status = try get("/v1/status", as: MeshStatus.self)
                let rollout = try result.rollout.map { try get("/v1/rollouts/\(ControlPath.escaped($0))", as: RolloutItem.self) }
                return (status, AppliedProgress(status, revision: result.revision, rollout: rollout))
            }
            if let (status, progress) = look {
                if progress.line != said { screen.note(progress.line) }
                said = progress.line
                missing = status.nodes.filter { $0.isConnected && !$0.hasApplied }.map { "\($0.subject.path) (\($0.instance))" }
                switch progress.state {
                case .done:
                    // A control plane that does not say what is compiled may still hold the old for the wanted: look twice.
                    if status.compiledRevision != nil || looksDone { return }
                    looksDone = true
                case .failed(let reasons): throw Failure(message: harmless(reasons.joined(separator: "\n")))
                case .waiting: looksDone = false
                }
            }
            guard screen.now() < deadline else {
                let names = missing.prefix(10).joined(separator: ", ") + (missing.count > 10 ? " and \(missing.count - 10) more" : "")
                throw Failure(message: "not applied within \(Times.span(limit))\(missing.isEmpty ? "" : ": \(names)")")
            }
            guard screen.pause(.milliseconds(250)) else { return }
        }
    }

    /// What a change did, kubectl's way.
    func show(_ result: ChangeResult, isAsJSON: Bool = false, isDeletion: Bool = false) throws {
        tell(result.warnings)
        if isAsJSON { return try printJSON(result) }
        let suffix = result.isDryRun ? " (dry run)" : ""
        for change in result.changes {
            let style: TextStyle =
                switch change.action {
                case .created: .good
                case .configured: .warning
                case .deleted: .bad
                case .unchanged: .dim
                }
            let word = isDeletion && change.action == .unchanged ? "is not there" : change.action.rawValue
            screen.print("\(change.resource.short) \(screen.styled(word, style))\(suffix)")
        }
        if result.changes.isEmpty { screen.print("nothing to change\(suffix)") }
        screen.note("revision \(result.revision)" + (result.rollout.map { ", rollout \($0)" } ?? ""))
    }
}
