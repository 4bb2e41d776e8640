import ArgumentParser
import ControlAPI

struct History: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the mesh's revisions, newest first.",
        discussion: """
            EXAMPLES
              outrigger history
              outrigger history --limit 100 -o json
            """)

    @OptionGroup var control: ControlOptions

    @Option(help: ArgumentHelp("How many.", valueName: "count"))
    var limit = 20

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func validate() throws {
        if limit < 1 { throw ValidationError("--limit: expected 1 or more, found \(limit).") }
    }

    func run(_ session: Session) throws {
        let items = try session.get("/v1/history", ["limit": "\(limit)"], as: [HistoryItem].self)
        if output == .json { return try session.printJSON(items) }
        guard !items.isEmpty else { return session.screen.note("nothing has been applied yet") }
        var table = TextTable(["REVISION>", "TIME", "ACTOR", "CHANGES", "REASON"])
        for item in items {
            table.add([
                "\(item.revision)", "\(Times.clock(item.time))", TextTable.Cell(item.actor), "\(Self.summary(item.changes))",
                TextTable.Cell(item.reason, else: ""),
            ])
        }
        session.show(table)
    }

    /// `+VirtualNode/a ~VirtualRouter/b`, or counts where that is too long.
    static func summary(_ changes: [ResourceChange]) -> String {
        let signs: [ResourceChange.Action: String] = [.created: "+", .configured: "~", .deleted: "-"]
        let changes = changes.filter { $0.action != .unchanged }
        if changes.count <= 3 { return changes.map { "\(signs[$0.action]!)\($0.resource.short)" }.joined(separator: " ") }
        return [ResourceChange.Action.created, .configured, .deleted].compactMap { action in
            let count = changes.count { $0.action == action }
            return count == 0 ? nil : "\(signs[action]!)\(count)"
        }.joined(separator: " ")
    }
}

struct Rollback: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes the mesh what it was at a revision, by a new revision.",
        discussion: """
            EXAMPLES
              outrigger rollback 16 --dry-run
              outrigger rollback 16 --reason 'blue is slow' --wait
            """)

    @Argument(help: ArgumentHelp("Of 'outrigger history'.", valueName: "revision"))
    var revision: Int

    @OptionGroup var rollout: RolloutOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var control: ControlOptions

    @Flag(name: .customLong("dry-run"), help: "Tells what would change, and changes nothing.")
    var dryRun = false

    @Option(help: ArgumentHelp("Why, for the history.", valueName: "text"))
    var reason: String?

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func validate() throws {
        if revision < 0 { throw ValidationError("Revisions count from 0, found \(revision).") }
        if dryRun, waiting.wait { throw ValidationError("--dry-run changes nothing to --wait for.") }
    }

    func run(_ session: Session) throws {
        let plan = try rollout.plan()
        let request = RollbackRequest(revision: revision, dryRun: dryRun ? true : nil, reason: reason, rollout: plan)
        let result = try session.post("/v1/rollback", request, as: ChangeResult.self)
        try session.show(result, isAsJSON: output == .json)
        if waiting.wait { try session.waitUntilApplied(result, atMost: waiting.seconds(plan)) }
    }
}
