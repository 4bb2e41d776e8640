import ArgumentParser
import ControlAPI

struct AuthorityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ca", abstract: "The mesh's certificate authority: what signs, until when, and another root.",
        subcommands: [AuthorityShow.self, AuthorityRotate.self], defaultSubcommand: AuthorityShow.self)

    /// For people.
    static func lines(_ status: AuthorityStatus) -> [String] {
        var lines = ["root       \(status.root.id.prefix(16)), until \(Times.clock(status.root.expires)) UTC"]
        if let previous = status.previous, let until = status.previousTrustedUntil {
            lines.append("before it  \(previous.id.prefix(16)), trusted until \(Times.clock(until)) UTC")
        }
        let older = status.certificatesOfPrevious > 0 ? ", \(status.certificatesOfPrevious) of them by the root before" : ""
        let life = Times.span(Double(status.certificateLifeSeconds))
        lines.append("signed     \(counted(status.certificates, "certificate")) that hold, for \(life) each\(older)")
        return lines
    }
}

struct AuthorityShow: ControlCommand {
    static let configuration = CommandConfiguration(commandName: "status", abstract: "Shows the root, and what it signed that still holds.")

    @OptionGroup var control: ControlOptions

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func run(_ session: Session) throws {
        let status = try session.get("/v1/authority", as: AuthorityStatus.self)
        if output == .json { return try session.printJSON(status) }
        for line in AuthorityCommand.lines(status) { session.screen.print(line) }
        if let warning = status.warning { session.screen.note("warning: \(warning)") }
    }
}

struct AuthorityRotate: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "rotate", abstract: "Lets another root sign from now on. The one before is trusted until its last certificate ends.")

    @OptionGroup var control: ControlOptions

    func run(_ session: Session) throws {
        let status = try session.post("/v1/authority/rotate", [String: String](), as: AuthorityStatus.self)
        for line in AuthorityCommand.lines(status) { session.screen.print(line) }
    }
}
