import ArgumentParser
import ControlAPI

struct RolloutCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rollout", abstract: "Follows and stops staged rollouts.",
        subcommands: [RolloutList.self, RolloutStatus.self, RolloutStop.self])
}

struct RolloutList: ControlCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists rollouts, newest first.")

    @OptionGroup var control: ControlOptions

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func run(_ session: Session) throws {
        let items = try session.get("/v1/rollouts", as: [RolloutItem].self)
        if output == .json { return try session.printJSON(items) }
        guard !items.isEmpty else { return session.screen.note("there has been no staged rollout") }
        var table = TextTable(["ID", "REVISION>", "STATE", "STAGE", "PROXIES>", "STARTED", "REASON"])
        for item in items {
            table.add([
                TextTable.Cell(item.id), "\(item.revision)", TextTable.Cell(item.state, RolloutText.style(item.state)),
                "\(RolloutText.stage(item))", "\(item.reached)/\(item.of)", "\(Times.clock(item.started))",
                TextTable.Cell(item.reason, else: ""),
            ])
        }
        session.show(table)
    }
}

struct RolloutStatus: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows one rollout; with --watch until it ends, with status 1 if it did not complete.")

    @Argument(help: ArgumentHelp("Default: the newest.", valueName: "id"))
    var id: String?

    @OptionGroup var control: ControlOptions

    @Flag(name: .shortAndLong, help: "Waits for its end.")
    var watch = false

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func run(_ session: Session) throws {
        var item = try RolloutText.find(id, session)
        if output == .json, !watch { return try session.printJSON(item) }
        var said = ""
        while true {
            let line = RolloutText.line(item)
            if line != said { session.screen.print(harmless(line)) }
            said = line
            guard watch else { return }
            guard item.state == "running" else { break }
            guard session.screen.pause(.seconds(1)) else { return }
            item = try session.patiently { try RolloutText.find(item.id, session) } ?? item
        }
        if item.state != "completed" { throw Failure(message: "") }
    }
}

struct RolloutStop: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Stops a rollout and takes it back from the proxies that have it.")

    @Argument(help: ArgumentHelp("Of 'outrigger rollout list'; default: the newest.", valueName: "id"))
    var id: String?

    @OptionGroup var control: ControlOptions

    func run(_ session: Session) throws {
        let item = try RolloutText.find(id, session)
        let path = "/v1/rollouts/\(ControlPath.escaped(item.id))/stop"
        let body = try session.call(ControlCall(method: "POST", path: path))
        let stopped = try? ControlJSON.decode(RolloutItem.self, body)
        session.screen.print(stopped.map(RolloutText.line).map(harmless) ?? "rollout \(item.id) is being stopped")
    }
}

enum RolloutText {
    static func find(_ id: String?, _ session: Session) throws -> RolloutItem {
        if let id { return try session.get("/v1/rollouts/\(ControlPath.escaped(id))") }
        let items = try session.get("/v1/rollouts", as: [RolloutItem].self)
        guard let newest = items.first else { throw Failure(message: "there has been no staged rollout") }
        return newest
    }

    static func stage(_ item: RolloutItem) -> String {
        let name = item.stages.indices.contains(item.stage) ? " (\(item.stages[item.stage]))" : ""
        return "\(min(item.stage + 1, item.stages.count)) of \(item.stages.count)\(name)"
    }

    static func line(_ item: RolloutItem) -> String {
        "rollout \(item.id) to revision \(item.revision): \(item.state), stage \(stage(item)), \(item.reached) of "
            + "\(counted(item.of, "proxy"))\(item.reason.map { ": \($0)" } ?? "")"
    }

    static func style(_ state: String) -> TextStyle {
        switch state {
        case "completed": .good
        case "running": .warning
        default: .bad
        }
    }
}
